"""The Elo fit against odds by hand and simulated contestants."""

import itertools
import json
import math

import numpy as np
import pytest

from r1jax import errors
from r1jax.evaluation import rating

FILE = [
  dict(contest=1, problem='A', rating=800, verdicts=[True, True]),
  dict(contest=1, problem='B', rating=1500, verdicts=[True, False]),
  dict(contest='2', problem='A', rating=1200.5, verdicts=[False, False]),
]


def simulate(true, attempts, contests=10, seed=0):
  """(difficulties, solved) of a contestant with the rating `true`. A contest
  has six problems, 800 to 2,800."""
  rng = np.random.default_rng(seed)
  d_P = np.tile(np.linspace(800, 2800, 6), contests)
  d_P += rng.integers(-100, 100, size=d_P.size)
  p_P = 1 / (1 + 10 ** ((d_P - true) / 400))
  return d_P, rng.random((d_P.size, attempts)) < p_P[:, None]


def test_half_of_equal_problems_is_their_rating_and_three_in_four_191_more():
  half, low, high = rating.fit([1500] * 4, [[1], [0], [1], [0]])
  assert half == pytest.approx(1500)
  assert high - 1500 == pytest.approx(1500 - low)
  most, _, _ = rating.fit([1500] * 4, [[1], [1], [1], [0]])
  assert most == pytest.approx(1500 + 400 * math.log10(3))


def test_the_expected_number_of_solved_problems_is_the_observed_one():
  d_P, solved_PG = simulate(1600, attempts=3)
  r, _, _ = rating.fit(d_P, solved_PG)
  expected = (1 / (1 + 10 ** ((d_P - r) / 400))).sum()
  assert expected == pytest.approx(solved_PG.mean(axis=1).sum())


def test_the_ends_are_where_the_outcome_is_in_a_tail_of_exact_probability():
  d_P, solved_P1 = simulate(1700, attempts=1, contests=2)
  _, low, high = rating.fit(d_P, solved_P1)
  solved = int(solved_P1.sum())

  def at_least(count, r):
    """By the sum over all outcomes."""
    p_P, total = 1 / (1 + 10 ** ((d_P - r) / 400)), 0.0
    for outcome in itertools.product([0, 1], repeat=len(d_P)):
      if sum(outcome) >= count:
        total += np.where(outcome, p_P, 1 - p_P).prod()
    return total

  assert at_least(solved, low) == pytest.approx(0.025, rel=1e-4)
  assert 1 - at_least(solved + 1, high) == pytest.approx(0.025, rel=1e-4)


@pytest.mark.parametrize('true', [1100, 2100])
@pytest.mark.parametrize('attempts', [1, 4])
def test_intervals_cover_simulated_contestants_and_the_bias_is_small(
  true, attempts
):
  fits = [rating.fit(*simulate(true, attempts, seed=s)) for s in range(60)]
  assert np.mean([low <= true <= high for _, low, high in fits]) >= 0.93
  width = np.mean([high - low for _, low, high in fits])
  assert abs(np.mean([best for best, _, _ in fits]) - true) < width / 10


def test_one_solved_attempt_more_makes_no_jump_and_lowers_no_end():
  """From none to all of 12 problems, 4 attempts at each, the easiest first. The
  ends are compared by the problems that they expect to be solved, 0 to 12."""
  d_P, _ = simulate(1500, attempts=1, contests=2)
  d_P.sort()
  solved_N, ends = np.zeros(48), []
  for n in range(49):
    solved_N[:n] = 1
    best, *both = rating.fit(d_P, solved_N.reshape(12, 4))
    assert both[0] < best < both[1]
    with np.errstate(over='ignore'):
      ends.append([(1 / (1 + 10 ** ((d_P - r) / 400))).sum() for r in both])
  steps = np.diff(ends, axis=0)
  assert steps.min() > -0.2 and steps.max() < 1


@pytest.mark.parametrize('attempts', [16, 512])
def test_one_solved_attempt_of_many_has_an_interval(attempts):
  solved_PG = np.zeros((12, attempts))
  solved_PG[0, 0] = 1
  d_P, _ = simulate(1500, attempts=1, contests=2)
  best, low, high = rating.fit(d_P, solved_PG)
  assert low < best < high
  _, _, none = rating.fit(d_P, np.zeros((12, attempts)))
  assert high == pytest.approx(none, abs=50)
  _, failed_low, _ = rating.fit(-d_P, np.ones((12, attempts)))
  assert failed_low == pytest.approx(-none)


def test_attempts_that_agree_count_as_one():
  d_P, solved_P1 = simulate(1500, attempts=1, contests=100)
  once, low, high = rating.fit(d_P, solved_P1)
  copied, copied_low, copied_high = rating.fit(d_P, np.tile(solved_P1, 16))
  assert copied == pytest.approx(once)
  assert 0.8 < (copied_high - copied_low) / (high - low) <= 1.001


def test_independent_attempts_narrow_the_interval():
  widths = []
  for attempts in (1, 16):
    _, low, high = rating.fit(*simulate(1500, attempts, contests=50))
    widths.append(high - low)
  assert 3 < widths[0] / widths[1] <= 4.1


def test_the_interval_is_one_sided_if_all_or_none_is_solved():
  # (1 + 10^((d - r) / 400))^-N is 1/2 for the rating, 0.025 for the bound.
  def at(p, N):
    return 1500 - 400 * math.log10(p ** (-1 / N) - 1)

  best, low, high = rating.fit([1500] * 3, np.ones((3, 2)))
  assert best == pytest.approx(at(0.5, 6))
  assert (low, high) == (pytest.approx(at(0.025, 3)), math.inf)
  x = rating.summary([1] * 3, [1500] * 3, np.ones((3, 2)))
  assert (x['rating'], x['low'], x['high']) == (best, low, None)
  assert f'[at least {low:.0f}]' in x['text']
  x = rating.summary([1] * 3, [1500] * 3, np.zeros((3, 2)))
  assert x['rating'] == pytest.approx(3000 - best)
  assert (x['low'], x['high']) == (None, pytest.approx(3000 - low))
  assert f'[at most {x["high"]:.0f}]' in x['text']


def test_the_rating_rises_with_the_number_solved():
  counts, ratings = np.arange(13), []
  for count in counts:
    solved_PG = (np.arange(12) < count).reshape(3, 4)
    ratings.append(rating.fit([1000, 1500, 2000], solved_PG)[0])
  assert ratings == sorted(ratings) and len(set(ratings)) == 13


def test_percentiles_are_the_papers_monotone_and_within_0_and_100():
  pairs = {1444: 80.4, 1534: 84.5, 1687: 90.5, 1746: 92.1, 2029: 96.3}
  for elo, share in pairs.items():
    assert rating.percentile(elo) == pytest.approx(share)
  shares = [rating.percentile(elo) for elo in range(0, 4000, 10)]
  assert shares == sorted(shares) and 0 < shares[0] and shares[-1] < 100


def test_percentiles_outside_of_the_papers_ratings_are_marked():
  inside = rating.summary([1, 1], [1500, 1500], [[1], [0]])
  outside = rating.summary([1, 1], [2500, 2500], [[1], [0]])
  assert not inside['extrapolated'] and outside['extrapolated']
  assert 'extrapolated' not in inside['text']
  assert outside['text'].endswith('percentile 99.0 (extrapolated)')


def test_verdicts_are_read_problem_by_problem(tmp_path):
  path = tmp_path / 'verdicts.jsonl'
  path.write_text('\n'.join(map(json.dumps, FILE)))
  contest_P, difficulty_P, solved_PG = rating.read(path)
  assert contest_P == [1, 1, '2']
  assert difficulty_P.tolist() == [800, 1500, 1200.5]
  assert solved_PG.tolist() == [[1, 1], [1, 0], [0, 0]]


BAD = {
  'not json': 'line 2 is not JSON',
  '[1]': 'line 2 is not a JSON object',
  '{"contest": 1}': "line 2: 'contest' and 'problem' must be",
  json.dumps(FILE[1] | dict(rating='hard')): "'rating' must be a number",
  json.dumps(FILE[1] | dict(rating=True)): "'rating' must be a number",
  json.dumps(FILE[1] | dict(rating=math.nan)): "'rating' must be a number",
  json.dumps(FILE[1] | dict(rating=1e300)): "'rating' must be a number",
  json.dumps(FILE[1] | dict(verdicts=[])): "'verdicts' must list",
  json.dumps(FILE[1] | dict(verdicts=[1, 0])): "'verdicts' must list",
  json.dumps(FILE[1] | dict(verdicts=[True])): 'line 2 has 1 verdicts',
  json.dumps(FILE[0]): 'line 2 repeats problem A of contest 1',
}


@pytest.mark.parametrize('line', BAD)
def test_a_bad_line_is_named(line, tmp_path):
  path = tmp_path / 'verdicts.jsonl'
  path.write_text(f'{json.dumps(FILE[0])}\n{line}\n')
  with pytest.raises(errors.UserError, match='verdicts.jsonl') as error:
    rating.read(path)
  assert BAD[line] in str(error.value)


def test_a_missing_or_empty_file_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match='there is no data file'):
    rating.read(tmp_path / 'nowhere')
  (tmp_path / 'empty').write_text('\n')
  with pytest.raises(errors.UserError, match='has no verdicts: it is empty'):
    rating.read(tmp_path / 'empty')
