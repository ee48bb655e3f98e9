"""What a set of samples says about a model: scores with their intervals.

N problems, K samples of each; arrays in, numbers out.
"""

import statistics

import numpy as np


def all_equal(x_NK) -> np.ndarray:
  """Whether the known numbers of a row are all the same: [N] bool."""
  lost_NK = np.isnan(x_NK)
  most_N = np.where(lost_NK, -np.inf, x_NK).max(axis=1)
  return most_N <= np.where(lost_NK, np.inf, x_NK).min(axis=1)


def pass_at_1(correct_NK) -> float:
  """The share of correct samples, every problem weighing the same."""
  return float(np.mean(correct_NK))


def pass_at_k(correct_NK, k: int) -> float:
  """E[1 - C(n-c, k) / C(n, k)], c correct of n samples (HumanEval, eq. 1)."""
  correct_NK = np.asarray(correct_NK)
  n = correct_NK.shape[1]
  assert 1 <= k <= n, f'pass@{k} of {n} samples'
  wrong_N = n - correct_NK.sum(axis=1)
  i = np.arange(k)
  # C(n-c, k) / C(n, k): no factor overflows, and c > n - k gives a factor 0.
  return float(1 - np.prod((wrong_N[:, None] - i) / (n - i), axis=1).mean())


def wilson(successes: float, n: int, level=0.95) -> tuple[float, float]:
  """The score interval of a proportion; honest at 0 and n successes too."""
  assert 0 <= successes <= n and n > 0
  z = statistics.NormalDist().inv_cdf((1 + level) / 2)
  p = successes / n
  center = p + z**2 / (2 * n)
  margin = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
  low, high = ((center + side * margin) / (1 + z**2 / n) for side in (-1, 1))
  return max(0.0, low), min(1.0, high)


def bootstrap_mean(x_N, seed, draws=10_000, level=0.95) -> tuple[float, float]:
  """The percentile interval of the mean, resampling the N problems."""
  x_N, rng = np.asarray(x_N, float), np.random.default_rng(seed)
  n = len(x_N)
  means = [x_N[rng.integers(n, size=n)].mean() for _ in range(draws)]
  low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def interval(correct_NK, seed=0) -> tuple[float, float]:
  """The 95 % interval of pass@1: Wilson if K = 1, else bootstrap over problems.

  Problems that all have the same mean leave the bootstrap without a width:
  they get Wilson's interval for N samples, which is on the wide side.
  """
  mean_N = np.mean(correct_NK, axis=1)
  if np.shape(correct_NK)[1] == 1 or mean_N.min() == mean_N.max():
    return wilson(float(mean_N.sum()), len(mean_N))
  return bootstrap_mean(mean_N, seed)


def cons_at_k(answers_NK, gold_N, equal) -> np.ndarray:
  """Whether the majority of a problem's answers equals the gold, 0 or 1 each.

  Answers are one where `equal(a, b)`; among equally frequent ones the first to
  reach its number wins; None (no answer) never does.
  """
  votes = [_majority(answers_K, equal) for answers_K in answers_NK]
  correct = [
    vote is not None and bool(equal(vote, gold))
    for vote, gold in zip(votes, gold_N, strict=True)
  ]
  return np.array(correct, np.float32)


def cons_of_groups(answers_NK, gold_N, equal, k) -> np.ndarray:
  """cons@k of the K // k disjoint groups of a problem's samples [N, K // k].

  What `interval` takes: all the samples count, and problems are resampled.
  """
  K = len(answers_NK[0])
  assert 1 <= k <= K, f'cons@{k} of {K} samples'
  starts = range(0, K - k + 1, k)
  groups = [[row_K[s : s + k] for row_K in answers_NK] for s in starts]
  votes = [cons_at_k(group_Nk, gold_N, equal) for group_Nk in groups]
  return np.stack(votes, axis=1)


def paired_difference(a_N, b_N, seed) -> tuple[float, float, float]:
  """Mean of a - b over the same problems and its 95 % bootstrap interval."""
  assert np.shape(a_N) == np.shape(b_N)
  difference_N = np.asarray(a_N, float) - np.asarray(b_N, float)
  return float(difference_N.mean()), *bootstrap_mean(difference_N, seed)


def paired_p_value(a_N, b_N, seed, draws=10_000) -> float:
  """Two-sided p of mean(a - b) by flipping the sign of each difference.

  All 2^n ways where they are not more than `draws`, else that many random
  ones, the observed one counted among them. Problems that agree say nothing.
  """
  assert np.shape(a_N) == np.shape(b_N)
  difference_N = np.asarray(a_N, float) - np.asarray(b_N, float)
  difference_N = difference_N[difference_N != 0]
  n = len(difference_N)
  least = abs(difference_N.sum()) - 1e-9  # sums of the same numbers, reordered
  if 2**n <= draws:
    sign_WN = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    return float((abs(sign_WN @ difference_N) >= least).mean())
  rng = np.random.default_rng(seed)

  def flip():
    return np.where(rng.integers(2, size=n), 1, -1) @ difference_N

  extreme = sum(abs(flip()) >= least for _ in range(draws))
  return float((1 + extreme) / (1 + draws))


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
