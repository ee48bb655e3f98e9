"""Statistics against hand-computed numbers, exact sums and other estimates."""

import fractions
import itertools
import math

import numpy as np
import pytest

from r1jax.evaluation import statistics


def test_pass_at_k_by_hand():
  # C(2,2)/C(4,2) = 1/6 missed; C(3,2)/C(4,2) = 1/2 missed; none; all.
  correct_PG = [[1, 0, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
  assert statistics.pass_at_k(correct_PG, 2) == pytest.approx(
    (5 / 6 + 1 / 2 + 1 + 0) / 4
  )


def test_pass_at_k_is_the_mean_over_all_subsets():
  correct_PG = np.array([[1, 0, 0, 1, 0, 0, 1], [0, 1, 0, 0, 0, 0, 0]], bool)
  for k in range(1, 8):
    subsets = itertools.combinations(range(7), k)
    found = np.mean([correct_PG[:, s].any(axis=1) for s in map(list, subsets)])
    assert statistics.pass_at_k(correct_PG, k) == pytest.approx(found)
  assert statistics.pass_at_k(correct_PG, 1) == pytest.approx(4 / 14)


def test_pass_at_k_of_many_samples_does_not_overflow():
  correct_PG = np.arange(2000)[None] < 3
  exact = 1 - fractions.Fraction(math.comb(1997, 500), math.comb(2000, 500))
  assert statistics.pass_at_k(correct_PG, 500) == pytest.approx(float(exact))


def test_pass_at_k_of_fewer_than_k_samples_fails():
  with pytest.raises(AssertionError, match='pass@5 of 4'):
    statistics.pass_at_k(np.ones((3, 4)), 5)


def test_wilson_by_hand():
  # z = 1.959964, p = 0.8, n = 10: (0.992073 -+ 0.313617) / 1.384146.
  assert statistics.wilson(8, 10) == pytest.approx(
    (0.490162, 0.943318), abs=1e-6
  )
  assert statistics.wilson(50, 100) == pytest.approx(
    (0.403832, 0.596168), abs=1e-6
  )
  z = 1.959963984540054
  assert statistics.wilson(0, 7) == pytest.approx((0, z**2 / (7 + z**2)))
  assert statistics.wilson(7, 7) == pytest.approx((7 / (7 + z**2), 1))


def test_bootstrap_approaches_the_normal_interval():
  x_P = np.random.default_rng(1).random(400)
  low, high = statistics.bootstrap_mean(x_P)
  half = 1.96 * x_P.std() / 20
  assert low == pytest.approx(x_P.mean() - half, abs=half / 15)
  assert high == pytest.approx(x_P.mean() + half, abs=half / 15)


def test_bootstrap_of_few_problems_by_hand():
  # Means 0, 1/2, 1 with probability 1/4, 1/2, 1/4.
  assert statistics.bootstrap_mean([0, 1]) == (0, 1)
  # The mean is 0 or 1 with probability 1/64 each, less than the 2.5 % cut off.
  low, high = statistics.bootstrap_mean([0, 1] * 3)
  assert (low, high) == (pytest.approx(1 / 6), pytest.approx(5 / 6))


def test_interval_is_wilson_for_one_sample_each():
  correct_PG = np.array([[1], [0], [1], [1], [1], [1], [1], [0], [1], [1]])
  assert statistics.interval(correct_PG) == statistics.wilson(8, 10)


def test_interval_resamples_problems_not_samples():
  # All 64 samples of a problem agree, so they are worth one.
  solved_P1 = np.arange(30)[:, None] < 15
  low, high = statistics.interval(np.tile(solved_P1, 64))
  assert high - low == pytest.approx(2 * 1.96 * 0.5 / 30**0.5, rel=0.1)


def test_interval_is_wilson_if_all_problems_have_the_same_mean():
  assert statistics.interval(np.ones((20, 4))) == statistics.wilson(20, 20)


def same_number(a, b):
  return float(a) == float(b)


def test_cons_at_k_counts_equal_answers_together():
  answers_PG = [['3', '2', '3.0'], ['3', '2', '2.0'], ['1', '2', '3']]
  correct_P = statistics.cons_at_k(answers_PG, ['3', '3', '1'], same_number, 3)
  np.testing.assert_array_equal(correct_P, [[1], [0], [1]])


def test_cons_at_k_gives_a_tie_to_the_first_to_reach_it():
  # 1 and 2 have two votes each; 2 has its second one first.
  answers_PG = [['1', '2', '2.0', '1']]
  assert statistics.cons_at_k(answers_PG, ['2'], same_number, 4) == [1]
  assert statistics.cons_at_k(answers_PG, ['1'], same_number, 4) == [0]


def test_cons_at_k_never_elects_a_missing_answer():
  answers_PG = [[None, None, '7', None], [None, None, None, None]]
  correct_P = statistics.cons_at_k(answers_PG, ['7', '7'], same_number, 4)
  np.testing.assert_array_equal(correct_P, [[1], [0]])


def test_paired_difference_cancels_the_difficulty_of_problems():
  rng = np.random.default_rng(0)
  hardness_P, noise_P = rng.random(200), rng.normal(size=200) / 100
  mean, (low, high) = statistics.paired_difference(
    hardness_P + 0.02 + noise_P, hardness_P
  )
  assert mean == pytest.approx(0.02 + noise_P.mean())
  assert 0.015 < low < mean < high < 0.025


def test_paired_difference_by_hand():
  assert statistics.paired_difference([3, 1], [1, 1]) == (1, (0, 2))


def test_votes_are_within_each_group():
  # Groups of 3, the seventh sample left over: 1 1 2 | 2 2 1 | 3.
  answers_PG = [['1', '1.0', '2', '2', '2', '1', '3'], [None] * 7]
  cons = statistics.cons_at_k(answers_PG, ['1', '1'], same_number, 3)
  np.testing.assert_array_equal(cons, [[1, 0], [0, 0]])
  whole_P1 = statistics.cons_at_k(answers_PG, ['1', '1'], same_number, 7)
  np.testing.assert_array_equal(whole_P1, [[0], [0]])  # 2 has three first


def test_cons_at_1_is_pass_at_1_with_its_interval():
  answers_PG = [['1', '2', '1'], ['2', '2', '1'], ['1', '1', '1']]
  cons = statistics.cons_at_k(answers_PG, '111', same_number, 1)
  correct_PG = np.array(answers_PG) == '1'
  np.testing.assert_array_equal(cons, correct_PG)
  want = statistics.interval(correct_PG)
  assert statistics.interval(cons) == pytest.approx(want)


def test_cons_of_more_samples_than_there_are_fails():
  with pytest.raises(AssertionError, match='cons@3 of 2 samples'):
    statistics.cons_at_k([['1', '2']], ['1'], same_number, 3)


def test_paired_p_value_by_hand():
  # Of the 8 signs of (1, 1, 1) two are as extreme; of (2, 1, -1) |sum| is
  # 4, 2, 2, 0 and their mirrors: six are at least 2.
  assert statistics.paired_p_value([1, 1, 1, 0], [0, 0, 0, 0]) == 2 / 8
  assert statistics.paired_p_value([2, 1, 0, 5], [0, 0, 1, 5]) == 6 / 8
  assert statistics.paired_p_value([0.5, 1], [0.5, 1]) == 1


def test_random_signs_agree_with_all_signs(monkeypatch):
  rng = np.random.default_rng(0)
  a_P, b_P = rng.random(12) + 0.2, rng.random(12)
  exact = statistics.paired_p_value(a_P, b_P)
  monkeypatch.setattr(statistics, 'RESAMPLES', 4000)
  random = statistics.paired_p_value(a_P, b_P)
  assert 0.01 < exact < 0.5
  assert random == pytest.approx(exact, abs=0.03) and random != exact


def test_a_p_value_of_two_equal_models_is_uniform():
  rng = np.random.default_rng(0)
  pairs = (rng.random((2, 10)) for _ in range(400))
  p = np.array([statistics.paired_p_value(a, b) for a, b in pairs])
  assert 0.02 < np.mean(p <= 0.05) < 0.08
  assert 0.35 < np.mean(p <= 0.5) < 0.6


def test_calibration_error_is_the_distance_of_probability_and_frequency():
  label_N = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 1]).astype(bool)
  probability_N = np.array([0.75] * 4 + [1 / 6] * 6)
  error = statistics.calibration_error
  assert error(probability_N, label_N) == pytest.approx(0)
  assert error(np.array([0.0, 1.0]), np.array([True, False])) == 1
  off_N = probability_N + np.array([0.04] * 4 + [0.02] * 6)
  assert error(off_N, label_N) == pytest.approx(0.4 * 0.04 + 0.6 * 0.02)


def test_all_equal_ignores_nan():
  nan = np.nan
  x_PG = np.array([[1, 1, 1], [1, nan, 1], [1, nan, 2], [nan, nan, nan]])
  np.testing.assert_array_equal(
    statistics.all_equal(x_PG), [True, True, False, True]
  )


def test_the_t_margin_is_that_of_tables():
  x_N = [1.0, 2.0, 3.0]  # s = 1, t = 4.302653
  assert statistics.t_margin(x_N) == pytest.approx(4.302653 / 3**0.5)
  x_NT = np.array([[1.0, 5.0], [3.0, 5.0]])  # t = 12.706205, s = sqrt(2), 0
  np.testing.assert_allclose(statistics.t_margin(x_NT), [12.706205, 0])
