"""Statistics of the answers to P problems, G samples each: pass@k, majority
votes, 95 % intervals and paired tests. Host arrays in, numbers out."""

import statistics
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

LEVEL = 0.95  # of all intervals
RESAMPLES = 10_000  # of a bootstrap; also max. combinations of signs

Interval = tuple[float, float]
Answers = Sequence[str | None]


def all_equal(x_PG: np.ndarray) -> np.ndarray:
  """Whether the numbers of a row, NaN left out, are all the same: bool [P]."""
  nan_PG = np.isnan(x_PG)
  max_P = np.where(nan_PG, -np.inf, x_PG).max(axis=1)
  return max_P <= np.where(nan_PG, np.inf, x_PG).min(axis=1)


def pass_at_k(correct_PG: ArrayLike, k: int) -> float:
  """mean of 1 - C(n - c, k) / C(n, k), c correct of n (HumanEval, eq. 1)."""
  correct_PG = np.asarray(correct_PG)
  n = correct_PG.shape[1]
  assert 1 <= k <= n, f'pass@{k} of {n} samples'
  wrong_P = n - correct_PG.sum(axis=1)
  i = np.arange(k)
  # As a product no factor overflows, and one factor is 0 where c > n - k.
  return float(1 - np.prod((wrong_P[:, None] - i) / (n - i), axis=1).mean())


def wilson(successes: float, n: int) -> Interval:
  """Wilson's score interval of a proportion; valid at 0 and n successes too."""
  assert 0 <= successes <= n and n > 0
  z = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)
  p = successes / n
  center = p + z**2 / (2 * n)
  margin = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
  low, high = ((center + x) / (1 + z**2 / n) for x in (-margin, margin))
  return max(0.0, low), min(1.0, high)


def bootstrap_mean(x_P: ArrayLike) -> Interval:
  """The percentile interval of the mean when the P problems are resampled."""
  x_P, rng = np.asarray(x_P, float), np.random.default_rng(0)
  n = len(x_P)
  means = [x_P[rng.integers(n, size=n)].mean() for _ in range(RESAMPLES)]
  low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
  return float(low), float(high)


def t_margin(x_N: ArrayLike) -> np.ndarray:
  """Half the width of the interval of the mean of N > 1 independent numbers or
  arrays: t(N - 1) * s / sqrt(N)."""
  x_N = np.asarray(x_N, float)
  n = len(x_N)
  assert n > 1, 'one number has no interval'
  t = special.stdtrit(n - 1, (1 + LEVEL) / 2)
  return t * x_N.std(axis=0, ddof=1) / n**0.5


def interval(correct_PG: ArrayLike) -> Interval:
  """The interval of pass@1: by bootstrap, or Wilson's over P samples if G = 1
  or all problems have the same mean, where the bootstrap has zero width."""
  correct_PG = np.asarray(correct_PG)
  mean_P = correct_PG.mean(axis=1)
  if correct_PG.shape[1] == 1 or mean_P.min() == mean_P.max():
    return wilson(float(mean_P.sum()), len(mean_P))
  return bootstrap_mean(mean_P)


def cons_at_k(
  answers_PG: Sequence[Answers], gold_P: Sequence[str], equal: Callable, k: int
) -> np.ndarray:
  """Whether the majority of each disjoint group of k answers equals the gold: 0
  or 1, [P, G // k]. Answers are counted as equal where equal(a, b). Ties go to
  the answer that reaches its count first; None never wins."""
  samples = len(answers_PG[0])
  assert 1 <= k <= samples, f'cons@{k} of {samples} samples'
  correct_PG = np.zeros((len(answers_PG), samples // k), np.float32)
  for p, (answers_G, gold) in enumerate(zip(answers_PG, gold_P, strict=True)):
    for group in range(samples // k):
      winner = _majority(answers_G[group * k : (group + 1) * k], equal)
      correct_PG[p, group] = winner is not None and equal(winner, gold)
  return correct_PG


def paired_difference(a_P: ArrayLike, b_P: ArrayLike) -> tuple[float, Interval]:
  """The mean of a - b over the same problems, and its interval."""
  difference_P = np.asarray(a_P, float) - np.asarray(b_P, float)
  return float(difference_P.mean()), bootstrap_mean(difference_P)


def paired_p_value(a_P: ArrayLike, b_P: ArrayLike) -> float:
  """Two-sided p-value of mean(a - b) when each difference may change its sign:
  over all 2^n combinations, or RESAMPLES random ones and the observed one."""
  difference_P = np.asarray(a_P, float) - np.asarray(b_P, float)
  difference_P = difference_P[difference_P != 0]  # Others have no influence.
  n = len(difference_P)
  # A sum of the same numbers in another order may be slightly smaller.
  observed = abs(difference_P.sum()) - 1e-9
  if 2**n <= RESAMPLES:
    sign = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    return float((abs(sign @ difference_P) >= observed).mean())
  rng = np.random.default_rng(0)
  extreme = 0
  for _ in range(RESAMPLES):
    sign_P = np.where(rng.integers(2, size=n), 1, -1)
    extreme += int(abs(sign_P @ difference_P) >= observed)
  return float((1 + extreme) / (1 + RESAMPLES))


def calibration_error(probability_N: np.ndarray, label_N: np.ndarray) -> float:
  """The expected calibration error: the sum over ten bins of probability of
  (share of N) * |mean probability - share of true labels|."""
  bin_N = np.minimum((probability_N * 10).astype(int), 9)
  gap_N = probability_N - label_N
  total = sum(abs(np.sum(gap_N[bin_N == b])) for b in range(10))
  return float(total / len(gap_N))


def _majority(answers, equal):
  counts, winner = {}, None
  for answer in answers:
    if answer is None:
      continue
    same = next((x for x in counts if equal(answer, x)), answer)
    counts[same] = counts.get(same, 0) + 1
    if winner is None or counts[same] > counts[winner]:
      winner = same
  return winner
