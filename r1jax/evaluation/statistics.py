"""Statistics of the answers to P problems, G samples each: pass@k, majority
votes, 95 % intervals and paired tests. Host arrays in, numbers out."""

import collections
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from r1jax import losses

LEVEL = 0.95  # of all intervals
RESAMPLES = 10_000  # of an interval; also max. combinations of signs
BLOCK = 1_000_000  # random weights at one time

Interval = tuple[float, float]
Votes = Sequence[int | None]


def all_equal(x_PG: np.ndarray) -> np.ndarray:
  """Whether the numbers of a row, NaN left out, are equal up to rounding, as
  rewards of a group are (losses.equal_rewards): bool [P]."""
  judged_PG = ~np.isnan(x_PG)
  x_PG = np.nan_to_num(x_PG).astype(np.float32)
  return np.asarray(losses.equal_rewards(x_PG, judged_PG))


def pass_at_k(correct_PG: ArrayLike, k: int) -> float:
  """Mean of 1 - C(n - c, k) / C(n, k), c correct of n (HumanEval, eq. 1)."""
  return float(pass_at_k_of_problems(correct_PG, k).mean())


def pass_at_k_of_problems(correct_PG: ArrayLike, k: int) -> np.ndarray:
  """1 - C(n - c, k) / C(n, k) of each problem: [P]."""
  correct_PG = np.asarray(correct_PG)
  n = correct_PG.shape[1]
  assert 1 <= k <= n, f'pass@{k} of {n} samples'
  wrong_P = n - correct_PG.sum(axis=1)
  i = np.arange(k)
  # As a product no factor overflows, and one factor is 0 where c > n - k.
  return 1 - np.prod((wrong_P[:, None] - i) / (n - i), axis=1)


def mean_interval(
  x_P: ArrayLike, least: float = 0.0, most: float = 1.0
) -> Interval:
  """The interval of the mean of independent numbers within [least, most].

  Gaffke's bounds (Learned-Miller and Thomas 2020): quantiles of the mean with
  random weights, Dirichlet(1, ..., 1), over the numbers and, for the lower
  bound, `least`, for the upper bound, `most`. They assume no distribution, are
  Clopper and Pearson's if all numbers are `least` or `most`, and rise with each
  number. RESAMPLES random weights stand for the distribution.
  """
  x_P1 = np.asarray(x_P, float)[:, None]
  low_1, high_1 = mean_intervals(x_P1, least, most)
  return float(low_1[0]), float(high_1[0])


def mean_intervals(
  x_PN: np.ndarray, least: float = 0.0, most: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
  """mean_interval of each of N columns: (low_N, high_N)."""
  assert x_PN.size and least <= x_PN.min() and x_PN.max() <= most, 'bounds'
  sorted_PN = np.sort(x_PN, axis=0)
  rng, low_RN, high_RN = np.random.default_rng(0), [], []
  block = max(1, min(RESAMPLES, BLOCK // len(x_PN)))
  for first in range(0, RESAMPLES, block):
    size = min(block, RESAMPLES - first), len(x_PN) + 1
    weight_RP = rng.standard_exponential(size)
    weight_RP /= weight_RP.sum(axis=1, keepdims=True)
    bound_R1, sum_RN = weight_RP[:, :1], weight_RP[:, 1:] @ sorted_PN
    low_RN.append(sum_RN + bound_R1 * least)
    high_RN.append(sum_RN + bound_R1 * most)
  low_N = np.quantile(np.concatenate(low_RN), (1 - LEVEL) / 2, axis=0)
  high_N = np.quantile(np.concatenate(high_RN), (1 + LEVEL) / 2, axis=0)
  mean_N = x_PN.mean(axis=0)
  low_N, high_N = np.minimum(low_N, mean_N), np.maximum(high_N, mean_N)
  return np.maximum(low_N, least), np.minimum(high_N, most)


def bootstrap_mean(x_P: ArrayLike) -> Interval:
  """The percentile interval of the mean when the P problems are resampled: for
  numbers without bounds, whose `mean_interval` would be infinite."""
  x_P, rng = np.asarray(x_P, float), np.random.default_rng(0)
  n = len(x_P)
  means = [x_P[rng.integers(n, size=n)].mean() for _ in range(RESAMPLES)]
  low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
  return float(low), float(high)


def bootstrap_samples(x_PG: np.ndarray) -> Interval:
  """The percentile interval of the mean of all numbers that are not NaN, when
  the P problems are resampled, each with its G samples."""
  count_P = (~np.isnan(x_PG)).sum(axis=1)
  sum_P = np.nansum(x_PG, axis=1, dtype=np.float64)
  return bootstrap_ratio(sum_P, count_P)


def bootstrap_ratio(sum_P: np.ndarray, count_P: np.ndarray) -> Interval:
  """The percentile interval of sum(sum_P) / sum(count_P) when the P problems
  are resampled."""
  rng, means = np.random.default_rng(0), []
  block = max(1, min(RESAMPLES, BLOCK // len(sum_P)))
  for first in range(0, RESAMPLES, block):
    size = min(block, RESAMPLES - first), len(sum_P)
    index_RP = rng.integers(len(sum_P), size=size)
    means.append(sum_P[index_RP].sum(axis=1) / count_P[index_RP].sum(axis=1))
  quantiles = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
  low, high = np.quantile(np.concatenate(means), quantiles)
  return float(low), float(high)


def t_margin(x_N: ArrayLike) -> np.ndarray:
  """Half the width of the interval of the mean of N > 1 independent numbers or
  arrays: t(N - 1) * s / sqrt(N)."""
  from scipy import special  # takes a tenth of the start of a stage

  x_N = np.asarray(x_N, float)
  n = len(x_N)
  assert n > 1, 'one number has no interval'
  t = special.stdtrit(n - 1, (1 + LEVEL) / 2)
  return t * x_N.std(axis=0, ddof=1) / n**0.5


def interval(correct_PG: ArrayLike) -> Interval:
  """The interval of pass@1. The problems are independent; the samples of one
  need not be."""
  return mean_interval(np.asarray(correct_PG, float).mean(axis=1))


def cons_at_k(
  vote_PG: Sequence[Votes], correct_PG: ArrayLike, k: int
) -> np.ndarray:
  """The correctness of the sample that each disjoint group of k samples elects:
  [P, G // k]. Equal votes are for the same answer; None is no vote. The first
  sample of the answer with most votes is elected, of answers with as many that
  which reaches its count first. Without votes 0."""
  correct_PG = np.asarray(correct_PG, float)
  samples = correct_PG.shape[1]
  assert 1 <= k <= samples, f'cons@{k} of {samples} samples'
  cons_PG = np.zeros((len(correct_PG), samples // k))
  for p, vote_G in enumerate(vote_PG):
    for group in range(samples // k):
      start = group * k
      elected = _elected(vote_G[start : start + k])
      if elected is not None:
        cons_PG[p, group] = correct_PG[p, start + elected]
  return cons_PG


def paired_difference(a_P: ArrayLike, b_P: ArrayLike) -> tuple[float, Interval]:
  """The mean of a - b over the same problems, and its interval; a and b are
  shares, 0 to 1."""
  difference_P = np.asarray(a_P, float) - np.asarray(b_P, float)
  return float(difference_P.mean()), mean_interval(difference_P, -1.0, 1.0)


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


def _elected(votes):
  """The index of the elected vote, or None."""
  counts: collections.Counter = collections.Counter()
  winner = None
  for vote in votes:
    if vote is None:
      continue
    counts[vote] += 1
    if winner is None or counts[vote] > counts[winner]:
      winner = vote
  return None if winner is None else votes.index(winner)
