"""A Codeforces rating from verdicts: maximum likelihood of the Elo model
P(solved) = 1 / (1 + 10^((d - r) / 400)), P problems of rating d, G attempts."""

import math
import statistics

import numpy as np
from numpy.typing import ArrayLike

from r1jax import errors
from r1jax.data import record_files

SCALE = 400 / math.log(10)
TAIL = (1 - 0.95) / 2  # the probability on each side of an interval
# Of R1-Zero, Dev1, Dev2, Dev3 and R1 (R1, Table 3).
RATINGS = (1444, 1534, 1687, 1746, 2029)
PERCENTILES = (80.4, 84.5, 90.5, 92.1, 96.3)


def fit(difficulty_P: ArrayLike, solved_PG: ArrayLike) -> tuple[float, ...]:
  """Maximum-likelihood rating r and its 95 % interval {r : 2 (l(best) - l(r))
  <= phi z^2}. phi corrects for attempts that agree: the variance of the
  attempts summed by problem over the model's, clipped to [1, G]. If all or no
  problems are solved, r is where that outcome has probability 1/2, and one end
  of the interval is infinite."""
  d_P, solved_PG = np.asarray(difficulty_P, float), np.asarray(solved_PG, bool)
  G, solved_P = solved_PG.shape[1], solved_PG.sum(axis=1)
  span = 4000 + 1000 * G
  start, end = d_P.min() - span, d_P.max() + span

  def loglik(r):
    x_P = r - d_P
    return solved_P @ _log_p(x_P) + (G - solved_P) @ _log_p(-x_P)

  if solved_PG.all() or not solved_PG.any():
    sign = 1 if solved_PG.all() else -1
    best = _root(lambda r: sign * (loglik(r) - math.log(0.5)), start, end)
    bound = _root(lambda r: sign * (loglik(r) / G - math.log(TAIL)), start, end)
    return (best, bound, math.inf) if sign == 1 else (best, -math.inf, bound)

  best = _root(
    lambda r: (G * np.exp(_log_p(r - d_P)) - solved_P).sum(), start, end
  )
  p_P = np.exp(_log_p(best - d_P))
  phi = ((solved_P - G * p_P) ** 2).sum() / (G * (p_P * (1 - p_P)).sum())
  z = statistics.NormalDist().inv_cdf(1 - TAIL)
  bound = loglik(best) - np.clip(phi, 1, G) * z**2 / 2
  low = _root(lambda r: loglik(r) - bound, start, best)
  high = _root(lambda r: bound - loglik(r), best, end)
  return best, low, high


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


def read(path: str) -> tuple[list, np.ndarray, np.ndarray]:
  """(contest_P, difficulty_P, solved_PG) of a jsonl file, a line a problem:
  {"contest": 1, "problem": "A", "rating": 1500, "verdicts": [true, false]}."""
  rows: dict[tuple, dict] = {}
  for _, where, row in record_files.json_rows(path):
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
    rows[key] = row
    attempts = len(next(iter(rows.values()))['verdicts'])
    if len(verdicts) != attempts:
      raise errors.UserError(
        f'{where} has {len(verdicts)} verdicts: all need {attempts}, as line 1'
      )
  if not rows:
    raise errors.UserError(f'{path} has no verdicts: it is empty')
  difficulty_P = np.array([row['rating'] for row in rows.values()], float)
  solved_PG = np.array([row['verdicts'] for row in rows.values()])
  return [contest for contest, _ in rows], difficulty_P, solved_PG


def _log_p(x_P):
  """log P(solved) of problems rated x below the contestant; never -inf."""
  return -np.logaddexp(0, -x_P / SCALE)


def _root(f, low, high):
  """Where the increasing f changes its sign, by bisection."""
  for _ in range(60):
    middle = (low + high) / 2
    if f(middle) > 0:
      high = middle
    else:
      low = middle
  return float((low + high) / 2)
