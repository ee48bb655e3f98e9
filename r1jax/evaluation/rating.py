"""A Codeforces rating from verdicts, by maximum likelihood of the Elo model.

P(solved) = 1 / (1 + 10^((d - r) / 400)) for a problem of rating d. The paper
does not state its own formula. N problems, K attempts at each.
"""

import dataclasses
import json
import math
import pathlib
import statistics

import numpy as np

from r1jax import errors

SCALE = 400 / math.log(10)
# (rating, percentile) of R1-Zero, Dev1, Dev2, Dev3 and R1 (R1, Table 3).
PERCENTILES = (
  (1444, 80.4),
  (1534, 84.5),
  (1687, 90.5),
  (1746, 92.1),
  (2029, 96.3),
)


@dataclasses.dataclass(frozen=True)
class Rating:
  """low is -inf where nothing was solved, high inf where all was; the
  percentile is extrapolated where the paper has no pair around the rating."""

  rating: float
  low: float
  high: float
  percentile: float
  extrapolated: bool


def fit(difficulty_N, solved_NK, level=0.95) -> Rating:
  """The rating r that solves sum(solved - P(solved | r)) = 0, its interval.

  The interval is where 2 (l(best) - l(r)) <= phi z^2. phi, between 1 and K, is
  the variance of the attempts summed by problem over the model's K p (1 - p):
  attempts that agree with one another count as fewer.

  Where all or none is solved the likelihood has no maximum: the rating is the
  one at which that result is as likely as not, the interval one-sided, up to
  where it has the probability (1 - level) / 2, a problem counted once.
  """
  d_N, solved_NK = np.asarray(difficulty_N, float), np.asarray(solved_NK, bool)
  (N, K), solved_N = solved_NK.shape, solved_NK.sum(axis=1)
  assert d_N.shape == (N,) and N and K
  tail, span = (1 - level) / 2, 4000 + 1000 * K
  ends = d_N.min() - span, d_N.max() + span

  # -log P and -log(1 - P), each of which is linear far out.
  def cost(x_N):
    return np.logaddexp(0, x_N / SCALE)

  def log_likelihood(r):
    return -(solved_N @ cost(d_N - r) + (K - solved_N) @ cost(r - d_N))

  if solved_NK.all() or not solved_NK.any():
    side = 1 if solved_NK.all() else -1

    def where(p, count):
      return _crossing(
        lambda r: side * (log_likelihood(r) / count - math.log(p)), *ends
      )

    best, bound = where(0.5, 1), where(tail, K)
    interval = (bound, math.inf) if side == 1 else (-math.inf, bound)
    return _rating(best, *interval)

  def p_N(r):
    return np.exp(-cost(d_N - r))

  best = _crossing(lambda r: (K * p_N(r) - solved_N).sum(), *ends)
  right_N = p_N(best)
  variance = K * (right_N * (1 - right_N)).sum()
  phi = ((solved_N - K * right_N) ** 2).sum() / variance
  z = statistics.NormalDist().inv_cdf(1 - tail)
  least = log_likelihood(best) - np.clip(phi, 1, K) * z**2 / 2
  low = _crossing(lambda r: log_likelihood(r) - least, ends[0], best)
  high = _crossing(lambda r: least - log_likelihood(r), best, ends[1])
  return _rating(best, low, high)


def percentile(rating):
  """The share of Codeforces' users below a rating, in percent.

  The paper's pairs joined by straight lines in log odds, the outermost two
  lengthened: monotone, and never 0 or 100 for a finite rating.
  """
  ratings, shares = np.array(PERCENTILES).T
  odds = np.log(shares / (100 - shares))
  i = np.clip(np.searchsorted(ratings, rating) - 1, 0, len(ratings) - 2)
  slope = (odds[i + 1] - odds[i]) / (ratings[i + 1] - ratings[i])
  return float(100 / (1 + np.exp(-odds[i] - slope * (rating - ratings[i]))))


def words(x: Rating):
  """The rating, its interval and percentile, as one would say them."""
  if math.isinf(x.high):
    interval = f'at least {x.low:.0f}'
  elif math.isinf(x.low):
    interval = f'at most {x.high:.0f}'
  else:
    interval = f'{x.low:.0f}, {x.high:.0f}'
  note = ' (extrapolated)' if x.extrapolated else ''
  return f'{x.rating:.0f} [{interval}], percentile {x.percentile:.1f}{note}'


def read(path):
  """(contest_N, difficulty_N, solved_NK) of a jsonl file of verdicts:
  {"contest": …, "problem": …, "rating": 1500, "verdicts": [true, false]}."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise errors.UserError(f'there is no file of verdicts {path}')
  rows = {}
  for number, line in enumerate(path.read_bytes().split(b'\n'), 1):
    if line.strip():
      row = _row(line, f'{path} line {number}')
      problem = row['contest'], row['problem']
      if problem in rows:
        raise errors.UserError(
          f'{path} line {number}: problem {problem[1]} of contest {problem[0]} '
          'stands there twice; put all its verdicts on one line'
        )
      rows[problem] = row
      first = next(iter(rows.values()))
      if len(row['verdicts']) != len(first['verdicts']):
        raise errors.UserError(
          f'{path} line {number} has {len(row["verdicts"])} verdicts, the '
          f'first line {len(first["verdicts"])}: give every problem as many'
        )
  if not rows:
    raise errors.UserError(f'{path} has no verdicts: it is empty')

  def pick(key):
    return [row[key] for row in rows.values()]

  return (
    pick('contest'),
    np.array(pick('rating'), float),
    np.array(pick('verdicts'), bool),
  )


def _row(line, where):
  try:
    row = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise errors.UserError(f'{where} is not JSON: {error}') from error
  if not isinstance(row, dict):
    raise errors.UserError(f'{where} is not a JSON object with keys')
  for key, wanted in (
    ('contest', 'a text or a number'),
    ('problem', 'a text or a number'),
    ('rating', 'the rating of the problem, 0 to 5000'),
    ('verdicts', 'a list of true and false, one an attempt'),
  ):
    if key not in row or not _fits(key, row[key]):
      raise errors.UserError(f'{where}: {key!r} must be {wanted}')
  return row


def _fits(key, value):
  if key == 'verdicts':

    def true_or_false(x):
      return isinstance(x, bool)

    return isinstance(value, list) and value and all(map(true_or_false, value))
  if key == 'rating':
    return type(value) in (int, float) and 0 <= value <= 5000
  return type(value) in (int, str)


def _rating(best, low, high):
  (least, _), *_, (most, _) = PERCENTILES
  return Rating(best, low, high, percentile(best), not least <= best <= most)


def _crossing(f, low, high):
  """Where the increasing f changes its sign, by halving."""
  for _ in range(60):
    middle = (low + high) / 2
    low, high = (low, middle) if f(middle) > 0 else (middle, high)
  return float((low + high) / 2)
