import fractions
import itertools
import math

import numpy as np
import pytest

from r1jax.evaluation import statistics


def test_pass_at_1_is_the_mean_and_independent_of_k_copies():
  correct_NK = np.array([[1, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]])
  assert statistics.pass_at_1(correct_NK) == pytest.approx(8 / 12)
  assert statistics.pass_at_1(np.tile(correct_NK, 2)) == pytest.approx(8 / 12)


def test_pass_at_k_by_hand():
  # C(2,2)/C(4,2) = 1/6 missed; C(3,2)/C(4,2) = 1/2 missed; none; all.
  correct_NK = [[1, 0, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
  assert statistics.pass_at_k(correct_NK, 2) == pytest.approx(
    (5 / 6 + 1 / 2 + 1 + 0) / 4
  )


def test_pass_at_k_is_the_mean_over_all_subsets():
  correct_NK = np.array([[1, 0, 0, 1, 0, 0, 1], [0, 1, 0, 0, 0, 0, 0]], bool)
  for k in range(1, 8):
    subsets = itertools.combinations(range(7), k)
    found = np.mean([correct_NK[:, s].any(axis=1) for s in map(list, subsets)])
    assert statistics.pass_at_k(correct_NK, k) == pytest.approx(found)
  assert statistics.pass_at_k(correct_NK, 1) == pytest.approx(4 / 14)


def test_pass_at_k_of_many_samples_does_not_overflow():
  correct_NK = np.arange(2000)[None] < 3
  exact = 1 - fractions.Fraction(math.comb(1997, 500), math.comb(2000, 500))
  assert statistics.pass_at_k(correct_NK, 500) == pytest.approx(float(exact))


def test_pass_at_k_of_fewer_samples_is_refused():
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
  z = 1.6448536269514722
  assert statistics.wilson(0, 7, level=0.9) == pytest.approx(
    (0, z**2 / (7 + z**2))
  )
  assert statistics.wilson(7, 7, level=0.9) == pytest.approx(
    (7 / (7 + z**2), 1)
  )


def test_bootstrap_is_the_normal_interval_for_many_problems():
  x_N = np.random.default_rng(1).random(400)
  low, high = statistics.bootstrap_mean(x_N, 0)
  half = 1.96 * x_N.std() / 20
  assert low == pytest.approx(x_N.mean() - half, abs=half / 15)
  assert high == pytest.approx(x_N.mean() + half, abs=half / 15)


def test_bootstrap_is_reproducible_and_widens_with_level():
  x_N = [0.0, 0.25, 1.0, 0.5, 1.0]
  a = statistics.bootstrap_mean(x_N, 3, draws=500)
  assert a == statistics.bootstrap_mean(x_N, 3, draws=500)
  b = statistics.bootstrap_mean(x_N, 3, draws=500, level=0.5)
  assert a[0] < b[0] < b[1] < a[1]


def test_bootstrap_of_two_problems_by_hand():
  # Means 0, 1/2, 1 with probability 1/4, 1/2, 1/4.
  assert statistics.bootstrap_mean([0, 1], 0) == (0, 1)
  assert statistics.bootstrap_mean([0, 1], 0, level=0.4) == (0.5, 0.5)


def test_interval_is_wilson_for_one_sample_each():
  correct_NK = np.array([[1], [0], [1], [1], [1], [1], [1], [0], [1], [1]])
  assert statistics.interval(correct_NK) == statistics.wilson(8, 10)


def test_interval_resamples_problems_not_samples():
  # Each problem is always or never right: 64 samples say no more than one.
  solved_N1 = np.arange(30)[:, None] < 15
  low, high = statistics.interval(np.tile(solved_N1, 64))
  assert high - low == pytest.approx(2 * 1.96 * 0.5 / 30**0.5, rel=0.1)


def test_interval_has_a_width_where_all_problems_agree():
  assert statistics.interval(np.ones((20, 4))) == statistics.wilson(20, 20)


def same_number(a, b):
  return float(a) == float(b)


def test_cons_at_k_counts_equal_answers_together():
  answers_NK = [['3', '2', '3.0'], ['3', '2', '2.0'], ['1', '2', '3']]
  correct_N = statistics.cons_at_k(answers_NK, ['3', '3', '1'], same_number)
  np.testing.assert_array_equal(correct_N, [1, 0, 1])


def test_cons_at_k_gives_a_tie_to_the_first_to_reach_it():
  # 1 and 2 have two votes each; 2 has its second one first.
  answers_NK = [['1', '2', '2.0', '1']]
  assert statistics.cons_at_k(answers_NK, ['2'], same_number) == [1]
  assert statistics.cons_at_k(answers_NK, ['1'], same_number) == [0]


def test_cons_at_k_never_elects_a_missing_answer():
  answers_NK = [[None, None, '7', None], [None, None, None, None]]
  correct_N = statistics.cons_at_k(answers_NK, ['7', '7'], same_number)
  np.testing.assert_array_equal(correct_N, [1, 0])


def test_paired_difference_removes_what_problems_share():
  rng = np.random.default_rng(0)
  hardness_N, noise_N = rng.random(200), rng.normal(size=200) / 100
  mean, low, high = statistics.paired_difference(
    hardness_N + 0.02 + noise_N, hardness_N, 0
  )
  assert mean == pytest.approx(0.02 + noise_N.mean())
  assert 0.015 < low < mean < high < 0.025


def test_paired_difference_by_hand():
  assert statistics.paired_difference([3, 1], [1, 1], 0) == (1, 0, 2)


def test_cons_of_groups_votes_in_each_group_on_its_own():
  # Groups of 3, the seventh sample left over: 1 1 2 | 2 2 1 | 3.
  answers_NK = [['1', '1.0', '2', '2', '2', '1', '3'], [None] * 7]
  cons_NG = statistics.cons_of_groups(answers_NK, ['1', '1'], same_number, 3)
  np.testing.assert_array_equal(cons_NG, [[1, 0], [0, 0]])
  whole_N1 = statistics.cons_of_groups(answers_NK, ['1', '1'], same_number, 7)
  np.testing.assert_array_equal(
    whole_N1[:, 0], statistics.cons_at_k(answers_NK, ['1', '1'], same_number)
  )


def test_one_vote_is_pass_at_1_and_so_is_its_interval():
  answers_NK = [['1', '2', '1'], ['2', '2', '1'], ['1', '1', '1']]
  cons_NG = statistics.cons_of_groups(answers_NK, '111', same_number, 1)
  correct_NK = np.array(answers_NK) == '1'
  np.testing.assert_array_equal(cons_NG, correct_NK)
  want = statistics.interval(correct_NK)
  assert statistics.interval(cons_NG) == pytest.approx(want)


def test_cons_of_more_samples_than_there_are_is_refused():
  with pytest.raises(AssertionError, match='cons@3 of 2 samples'):
    statistics.cons_of_groups([['1', '2']], ['1'], same_number, 3)


def test_paired_p_value_by_hand():
  # Of the 8 signs of (1, 1, 1) two are as extreme; of (2, 1, -1) |sum| is
  # 4, 2, 2, 0 and their mirrors: six are at least 2.
  assert statistics.paired_p_value([1, 1, 1, 0], [0, 0, 0, 0], 0) == 2 / 8
  assert statistics.paired_p_value([2, 1, 0, 5], [0, 0, 1, 5], 0) == 6 / 8
  assert statistics.paired_p_value([0.5, 1], [0.5, 1], 0) == 1


def test_drawn_signs_agree_with_all_of_them():
  rng = np.random.default_rng(0)
  a_N, b_N = rng.random(12) + 0.2, rng.random(12)
  exact = statistics.paired_p_value(a_N, b_N, 0)
  drawn = statistics.paired_p_value(a_N, b_N, 0, draws=4000)
  assert 0.01 < exact < 0.5
  assert drawn == pytest.approx(exact, abs=0.03) and drawn != exact


def test_a_p_value_of_two_equal_models_is_uniform():
  rng = np.random.default_rng(0)
  pairs = (rng.random((2, 10)) for _ in range(400))
  p = np.array([statistics.paired_p_value(a, b, 0) for a, b in pairs])
  assert 0.02 < np.mean(p <= 0.05) < 0.08
  assert 0.35 < np.mean(p <= 0.5) < 0.6
