"""The Elo fit against hand-computed odds and contestants of known rating."""

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


def simulate(true, K, contests=10, seed=0):
  """A contestant at `contests` rounds of six problems, 800 to 2,800."""
  rng = np.random.default_rng(seed)
  d_N = np.tile(np.linspace(800, 2800, 6), contests)
  d_N += rng.integers(-100, 100, size=d_N.size)
  p_N = 1 / (1 + 10 ** ((d_N - true) / 400))
  return d_N, rng.random((d_N.size, K)) < p_N[:, None]


def test_one_half_of_equal_problems_is_their_rating_and_three_in_four_is_191():
  half = rating.fit([1500] * 4, [[1], [0], [1], [0]])
  assert half.rating == pytest.approx(1500)
  assert half.high - 1500 == pytest.approx(1500 - half.low)
  most = rating.fit([1500] * 4, [[1], [1], [1], [0]])
  assert most.rating == pytest.approx(1500 + 400 * math.log10(3))


def test_the_rating_expects_as_many_solved_as_there_were():
  d_N, solved_NK = simulate(1600, K=3)
  r = rating.fit(d_N, solved_NK).rating
  expected = (1 / (1 + 10 ** ((d_N - r) / 400))).sum()
  assert expected == pytest.approx(solved_NK.mean(axis=1).sum())


def test_the_interval_is_where_the_likelihood_falls_by_z_squared_over_two():
  d_N, solved_N1 = simulate(1700, K=1)
  x = rating.fit(d_N, solved_N1)

  def p(r):
    return 1 / (1 + 10 ** ((d_N - r) / 400))

  def l(r):
    return np.log(np.where(solved_N1[:, 0], p(r), 1 - p(r))).sum()

  for end in (x.low, x.high):
    assert l(x.rating) - l(end) == pytest.approx(1.959964**2 / 2, rel=1e-5)


@pytest.mark.parametrize('true', [1100, 1500, 2100])
@pytest.mark.parametrize('K', [1, 4])
def test_intervals_cover_simulated_contestants_and_the_bias_is_small(true, K):
  fits = [rating.fit(*simulate(true, K, seed=seed)) for seed in range(300)]
  covered = np.mean([x.low <= true <= x.high for x in fits])
  assert 0.92 <= covered <= 0.99
  width = np.mean([x.high - x.low for x in fits])
  assert abs(np.mean([x.rating for x in fits]) - true) < width / 20


def test_attempts_that_always_agree_count_as_one():
  d_N, solved_N1 = simulate(1500, K=1, contests=100)
  once = rating.fit(d_N, solved_N1)
  copied = rating.fit(d_N, np.tile(solved_N1, 16))
  assert copied.rating == pytest.approx(once.rating)
  ratio = (copied.high - copied.low) / (once.high - once.low)
  assert 0.8 < ratio <= 1.001


def test_attempts_on_their_own_narrow_the_interval():
  wide, narrow = (rating.fit(*simulate(1500, K, contests=50)) for K in (1, 16))
  ratio = (wide.high - wide.low) / (narrow.high - narrow.low)
  assert 3 < ratio <= 4.1


def test_all_or_nothing_has_one_bound_by_hand():
  # (1 + 10^((d - r) / 400))^-N is 1/2 for the rating, 0.025 for the bound.
  def at(p, N):
    return 1500 - 400 * math.log10(p ** (-1 / N) - 1)

  best = rating.fit([1500] * 3, np.ones((3, 2)))
  assert best.rating == pytest.approx(at(0.5, 6))
  assert (best.low, best.high) == (pytest.approx(at(0.025, 3)), math.inf)
  worst = rating.fit([1500] * 3, np.zeros((3, 2)))
  assert worst.rating == pytest.approx(3000 - best.rating)
  assert (worst.low, worst.high) == (-math.inf, pytest.approx(3000 - best.low))
  assert f'[at least {best.low:.0f}]' in rating.words(best)
  assert f'[at most {worst.high:.0f}]' in rating.words(worst)


def test_more_solved_is_never_less():
  solved_N, ratings = np.arange(13), []
  for count in solved_N:
    solved_NK = (np.arange(12) < count).reshape(3, 4)
    ratings.append(rating.fit([1000, 1500, 2000], solved_NK).rating)
  assert ratings == sorted(ratings) and len(set(ratings)) == 13


def test_percentiles_are_the_papers_and_rise_within_0_and_100():
  pairs = {1444: 80.4, 1534: 84.5, 1687: 90.5, 1746: 92.1, 2029: 96.3}
  for elo, share in pairs.items():
    assert rating.percentile(elo) == pytest.approx(share)
  shares = [rating.percentile(elo) for elo in range(0, 4000, 10)]
  assert shares == sorted(shares) and 0 < shares[0] and shares[-1] < 100


def test_what_lies_outside_the_papers_ratings_says_so():
  inside = rating.fit([1500, 1500], [[1], [0]])
  outside = rating.fit([2500, 2500], [[1], [0]])
  assert not inside.extrapolated and outside.extrapolated
  assert 'extrapolated' not in rating.words(inside)
  assert rating.words(outside).endswith('percentile 99.0 (extrapolated)')


def test_verdicts_are_read_problem_by_problem(tmp_path):
  path = tmp_path / 'verdicts.jsonl'
  path.write_text('\n'.join(map(json.dumps, FILE)))
  contest_N, difficulty_N, solved_NK = rating.read(path)
  assert contest_N == [1, 1, '2']
  assert difficulty_N.tolist() == [800, 1500, 1200.5]
  assert solved_NK.tolist() == [[1, 1], [1, 0], [0, 0]]


BAD = {
  'not json': 'line 2 is not JSON',
  '[1]': 'line 2 is not a JSON object',
  '{"contest": 1}': "line 2: 'problem' must be a text or a number",
  json.dumps(FILE[1] | dict(rating='hard')): "'rating' must be the rating",
  json.dumps(FILE[1] | dict(rating=True)): "'rating' must be the rating",
  json.dumps(FILE[1] | dict(rating=math.nan)): "'rating' must be the rating",
  json.dumps(FILE[1] | dict(rating=1e300)): "'rating' must be the rating",
  json.dumps(FILE[1] | dict(verdicts=[])): "'verdicts' must be a list",
  json.dumps(FILE[1] | dict(verdicts=[1, 0])): "'verdicts' must be a list",
  json.dumps(FILE[1] | dict(verdicts=[True])): 'line 2 has 1 verdicts',
  json.dumps(FILE[0]): 'line 2: problem A of contest 1 stands there twice',
}


@pytest.mark.parametrize('line', BAD)
def test_a_bad_line_is_named(line, tmp_path):
  path = tmp_path / 'verdicts.jsonl'
  path.write_text(f'{json.dumps(FILE[0])}\n{line}\n')
  with pytest.raises(errors.UserError, match='verdicts.jsonl') as error:
    rating.read(path)
  assert BAD[line] in str(error.value)


def test_a_missing_or_empty_file_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match='there is no file of verdicts'):
    rating.read(tmp_path / 'nowhere')
  (tmp_path / 'empty').write_text('\n')
  with pytest.raises(errors.UserError, match='has no verdicts: it is empty'):
    rating.read(tmp_path / 'empty')
