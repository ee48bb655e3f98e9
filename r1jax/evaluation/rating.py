"""A Codeforces rating from verdicts: maximum likelihood of the Elo model
P(solved) = 1 / (1 + 10^((d - r) / 400)), P problems of rating d, G attempts."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from r1jax import errors
from r1jax.data.bad_records import BadRecords
from r1jax.data.sources import json_file

SCALE = 400 / math.log(10)
TAIL = (1 - 0.95) / 2  # the probability on each side of an interval
SPAN = 10_000  # between the problems' ratings and the ends of the search
AGREEING = 0.5  # p (1 - p) of attempts that agree, added to those observed
# Of R1-Zero, Dev1, Dev2, Dev3 and R1 (R1, Table 3).
RATINGS = (1444, 1534, 1687, 1746, 2029)
PERCENTILES = (80.4, 84.5, 90.5, 92.1, 96.3)


def fit(difficulty_P: ArrayLike, solved_PG: ArrayLike) -> tuple[float, ...]:
  """Maximum-likelihood rating r and its 95 % interval. If all or no problems
  are solved, r is where that outcome has probability 1/2, and one end of the
  interval is infinite.

  The interval is Clopper and Pearson's: all r for which so many solved attempts
  or more, and so many or fewer, have a probability of at least TAIL each, if
  attempts are independent. Attempts at a problem may agree: only as many count
  as effective_attempts says.
  """
  d_P, solved_PG = np.asarray(difficulty_P, float), np.asarray(solved_PG, bool)
  G, solved_P = solved_PG.shape[1], solved_PG.sum(axis=1)
  start, end = _search_range(d_P)
  if solved_PG.all():
    best = optimize.brentq(
      lambda r: G * _log_p(r - d_P).sum() - math.log(0.5), start, end
    )
    return best, _low(d_P, len(d_P), 1), math.inf
  if not solved_PG.any():
    best = optimize.brentq(
      lambda r: math.log(0.5) - G * _log_p(d_P - r).sum(), start, end
    )
    return best, -math.inf, -_low(-d_P, len(d_P), 1)
  best = optimize.brentq(
    lambda r: (G * np.exp(_log_p(r - d_P)) - solved_P).sum(), start, end
  )
  attempts = effective_attempts(best - d_P, solved_P / G, G)
  solved = solved_P.sum() / G
  low = _low_between(d_P, solved, attempts)
  # To solve a problem rated x above is as probable as to fail at x below.
  high = -_low_between(-d_P, len(d_P) - solved, attempts)
  return best, low, high


def effective_attempts(x_P: np.ndarray, share_P: np.ndarray, G: int) -> float:
  """The number of independent attempts at each problem with as much variance
  as G attempts that may agree, 1 to G; the problems are rated x below the
  contestant, who solves a share of the attempts at each.

  The variance of a share is p (1 - p) / attempts. AGREEING is added to both the
  observed and the model's sum over problems, since few uncertain problems do
  not show how far attempts agree: without them 1 attempt counts.
  """
  p_P, P = np.exp(_log_p(x_P)), len(x_P)
  observed = ((share_P - p_P) ** 2).sum() * P / max(1, P - 1)
  model = np.exp(_log_p(x_P) + _log_p(-x_P)).sum()
  return float(np.clip((model + AGREEING) / (observed + AGREEING), 1, G))


def percentile(rating: float) -> float:
  """The percentage of Codeforces users below a rating: linear interpolation of
  log odds between the paper's values, extrapolated at both ends."""
  shares = np.array(PERCENTILES)
  odds = np.log(shares / (100 - shares))
  i = np.clip(np.searchsorted(RATINGS, rating) - 1, 0, len(RATINGS) - 2)
  slope = (odds[i + 1] - odds[i]) / (RATINGS[i + 1] - RATINGS[i])
  return float(100 / (1 + np.exp(-odds[i] - slope * (rating - RATINGS[i]))))


def summary(
  contest_P: list, difficulty_P: ArrayLike, solved_PG: np.ndarray
) -> dict:
  """The fit and its percentile as JSON; an infinite end is None."""
  rating, low, high = fit(difficulty_P, solved_PG)
  interval = f'{low:.0f}, {high:.0f}'
  if math.isinf(high):
    interval = f'at least {low:.0f}'
  elif math.isinf(low):
    interval = f'at most {high:.0f}'
  share = percentile(rating)
  extrapolated = not RATINGS[0] <= rating <= RATINGS[-1]
  note = ' (extrapolated)' if extrapolated else ''
  return dict(
    rating=rating,
    low=low if math.isfinite(low) else None,
    high=high if math.isfinite(high) else None,
    percentile=share,
    extrapolated=extrapolated,
    text=f'{rating:.0f} [{interval}], percentile {share:.1f}{note}',
    contests=len(set(contest_P)),
    problems=len(solved_PG),
    attempts=len(solved_PG[0]),
  )


def _checked_key(row, rows, where):
  """(contest, problem) of a row. Raises UserError if it cannot be used beside
  the earlier rows."""
  rating, verdicts = row.get('rating', -1), row.get('verdicts')
  key = contest, problem = row.get('contest'), row.get('problem')
  if not {type(contest), type(problem)} <= {int, str}:
    raise errors.UserError(
      f"{where}: 'contest' and 'problem' must be texts or integers"
    )
  if type(rating) not in (int, float) or not 0 <= rating <= 5000:
    raise errors.UserError(f"{where}: 'rating' must be a number, 0 to 5000")
  if not isinstance(verdicts, list) or {type(x) for x in verdicts} != {bool}:
    raise errors.UserError(f"{where}: 'verdicts' must list true and false")
  if key in rows:
    raise errors.UserError(
      f'{where} repeats problem {problem} of contest {contest}: merge them'
    )
  attempts = len(next(iter(rows.values()), row)['verdicts'])
  if len(verdicts) != attempts:
    raise errors.UserError(
      f'{where} has {len(verdicts)} verdicts: all need {attempts}, as line 1'
    )
  return key


def read(path: str) -> tuple[list, np.ndarray, np.ndarray]:
  """(contest_P, difficulty_P, solved_PG) of a jsonl file, a line a problem:
  {"contest": 1, "problem": "A", "rating": 1500, "verdicts": [true, false]}."""
  rows: dict[tuple, dict] = {}
  bad = BadRecords(key='')
  for number, where, row in json_file.rows(path, bad):
    with bad.noted(f'line {number}'):
      key = _checked_key(row, rows, where)
      rows[key] = row
  bad.finish(len(rows), str(path))
  if not rows:
    raise errors.UserError(f'{path} has no verdicts: it is empty')
  difficulty_P = np.array([row['rating'] for row in rows.values()], float)
  solved_PG = np.array([row['verdicts'] for row in rows.values()])
  return [contest for contest, _ in rows], difficulty_P, solved_PG


def _log_p(x_P):
  """log P(solved) of problems rated x below the contestant; never -inf."""
  return -np.logaddexp(0, -x_P / SCALE)


def _search_range(d_P):
  return d_P.min() - SPAN, d_P.max() + SPAN


def _low(d_P, solved, attempts):
  """The rating with which at least `solved` problems, the mean over attempts,
  are solved with probability TAIL; -inf if it is below all ratings."""

  def excess(r):
    tail = _log_tail(r - d_P, attempts, solved * attempts)
    return tail - math.log(TAIL)

  start, end = _search_range(d_P)
  return optimize.brentq(excess, start, end) if excess(start) < 0 else -math.inf


def _low_between(d_P, solved, attempts):
  """_low, interpolated between whole numbers of attempts."""
  fewer, more = math.floor(attempts), math.ceil(attempts)
  ends = [_low(d_P, solved, n) for n in (fewer, more)]
  if -math.inf in ends:
    return -math.inf
  return float(np.interp(attempts, (fewer, more), ends))


def _log_tail(x_P, attempts, solved):
  """log P(at least `solved` of `attempts` independent attempts at each problem
  are solved); between whole numbers of solved attempts linear."""
  pmf, p_P = np.ones(1), np.exp(_log_p(x_P))
  for p in p_P:
    pmf = np.convolve(pmf, [1 - p, p])
  size = len(p_P) * attempts + 1
  if attempts > 1:  # The transform of a sum is the product of transforms.
    pmf = np.fft.irfft(np.fft.rfft(pmf, size) ** attempts, size)
  tail = np.cumsum(np.maximum(pmf, 0)[::-1])[::-1]
  log_tail = np.log(np.maximum(tail, np.finfo(float).tiny))
  return np.interp(solved, np.arange(size), log_tail)
