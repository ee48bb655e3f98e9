"""Statistics against hand-computed numbers, exact sums and other estimates."""

import fractions
import itertools
import math

import numpy as np
import pytest
from scipy import stats

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


def test_shares_of_whole_problems_have_clopper_and_pearsons_interval():
  for solved, n in ((0, 7), (1, 30), (8, 10), (50, 100), (7, 7)):
    low, high = statistics.mean_interval(np.arange(n) < solved)
    error = 0.03 * (high - low)  # of 10,000 random weights
    if solved:
      exact = stats.beta.ppf(0.025, solved, n - solved + 1)
      assert low == pytest.approx(exact, abs=error)
    if solved < n:
      exact = stats.beta.ppf(0.975, solved + 1, n - solved)
      assert high == pytest.approx(exact, abs=error)
  assert statistics.mean_interval([0] * 7)[0] == 0
  assert statistics.mean_interval([1] * 7)[1] == 1


def test_one_right_sample_more_makes_no_jump_and_lowers_no_bound():
  """Right samples one by one: problem after problem, and turn by turn."""
  for order in (np.arange(90), np.arange(90).reshape(30, 3).T.reshape(-1)):
    correct_N, bounds, means = np.zeros(90), [], []
    for n in [None, *order]:
      if n is not None:
        correct_N[n] = 1
      bounds.append(statistics.interval(correct_N.reshape(30, 3)))
      means.append(correct_N.mean())
    low, high = np.array(bounds).T
    steps = np.diff(bounds, axis=0)
    assert steps.min() >= -1e-12 and steps.max() < 0.035
    assert (low <= means).all() and (means <= high).all()


def test_few_right_samples_of_many_leave_many_problems_possible():
  """1 of 1,920 samples over 30 problems: 8 % of the problems may be solvable
  and not be among the 30."""
  correct_PG = np.zeros((30, 64))
  none_low, none_high = statistics.interval(correct_PG)
  correct_PG[4, 7] = 1
  low, high = statistics.interval(correct_PG)
  assert (none_low, low < 1 / 1920) == (0, True)
  assert 0.1 < none_high < high < none_high + 0.002


def test_the_interval_is_narrow_where_problems_are_alike():
  rng = np.random.default_rng(0)
  low, high = statistics.interval(rng.random((500, 64)) < 0.5)
  ideal = 2 * 1.96 * 0.5 / (500 * 64) ** 0.5
  assert ideal < high - low < 1.5 * ideal


def test_an_interval_of_one_problem_is_wide_and_of_none_refused():
  low, high = statistics.interval(np.ones((1, 4)))
  assert low < 0.05 and high == 1
  with pytest.raises(AssertionError):
    statistics.mean_interval([])


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


def test_interval_resamples_problems_not_samples():
  # All 64 samples of a problem agree, so they are worth one.
  solved_P1 = np.arange(30)[:, None] < 15
  low, high = statistics.interval(np.tile(solved_P1, 64))
  assert high - low == pytest.approx(2 * 1.96 * 0.5 / 30**0.5, rel=0.1)


def test_cons_at_k_elects_the_first_sample_of_the_answer_with_most_votes():
  # Answers are named by their first sample. In the last problem the two
  # samples of the elected answer have different verdicts: the first one's.
  vote_PG = [[0, 1, 0], [0, 1, 1], [0, 1, 2], [0, 1, 1]]
  correct_PG = [[1, 0, 1], [1, 0, 0], [0, 1, 0], [1, 0, 1]]
  cons_P1 = statistics.cons_at_k(vote_PG, correct_PG, 3)
  np.testing.assert_array_equal(cons_P1, [[1], [0], [0], [0]])


def test_cons_at_k_gives_a_tie_to_the_first_to_reach_it():
  # Two votes each; 1 has its second one first.
  cons = statistics.cons_at_k([[0, 1, 1, 0]], [[0, 1, 1, 0]], 4)
  assert cons == [[1]]
  assert statistics.cons_at_k([[0, 1, 1, 0]], [[1, 0, 0, 1]], 4) == [[0]]


def test_cons_at_k_never_elects_a_missing_answer():
  vote_PG = [[None, None, 2, None], [None] * 4]
  cons_P1 = statistics.cons_at_k(vote_PG, [[0, 0, 1, 0], [0] * 4], 4)
  np.testing.assert_array_equal(cons_P1, [[1], [0]])


def test_paired_difference_cancels_the_difficulty_of_problems():
  rng = np.random.default_rng(0)
  hardness_P, noise_P = rng.random(2000) * 0.9, rng.normal(size=2000) / 100
  mean, (low, high) = statistics.paired_difference(
    np.clip(hardness_P + 0.02 + noise_P, 0, 1), hardness_P
  )
  assert mean == pytest.approx(0.02 + noise_P.mean(), abs=1e-3)
  assert 0.015 < low < mean < high < 0.025
  unpaired_low, unpaired_high = statistics.mean_interval(hardness_P)
  assert high - low < (unpaired_high - unpaired_low) / 4


def test_two_models_that_agree_on_few_problems_may_still_differ():
  # 0.025^(1/30) of the problems may be the share on which they agree.
  mean, (low, high) = statistics.paired_difference([0.5] * 30, [0.5] * 30)
  assert mean == 0
  assert high == pytest.approx(-low)
  assert high == pytest.approx(1 - 0.025 ** (1 / 30), rel=0.05)


def test_votes_are_within_each_group():
  # Groups of 3, the seventh sample left over: 0 0 2 | 2 2 0 | 6.
  vote_PG = [[0, 0, 2, 2, 2, 0, 6], [None] * 7]
  correct_PG = [[1, 1, 0, 0, 0, 1, 0], [0] * 7]
  cons_PG = statistics.cons_at_k(vote_PG, correct_PG, 3)
  np.testing.assert_array_equal(cons_PG, [[1, 0], [0, 0]])
  whole_P1 = statistics.cons_at_k(vote_PG, correct_PG, 7)
  np.testing.assert_array_equal(whole_P1, [[0], [0]])  # 2 has three first


def test_cons_at_1_is_pass_at_1_with_its_interval():
  vote_PG, correct_PG = [[0, 1, 0], [0, 0, 2]], [[1, 0, 1], [0, 0, 1]]
  cons_PG = statistics.cons_at_k(vote_PG, correct_PG, 1)
  np.testing.assert_array_equal(cons_PG, correct_PG)


def test_cons_of_more_samples_than_there_are_fails():
  with pytest.raises(AssertionError, match='cons@3 of 2 samples'):
    statistics.cons_at_k([[0, 1]], [[1, 0]], 3)


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
