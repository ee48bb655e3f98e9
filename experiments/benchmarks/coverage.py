"""How often the 95 % intervals of evaluations cover the truth, by simulation.

`python -m experiments.benchmarks.coverage` prints a table for pass@1, one for
paired differences and pass@k, and one for ratings: the lowest coverage over pass
rates or ratings, and the mean width.
"""

import math
from collections.abc import Sequence

import numpy as np

from r1jax.evaluation import rating, statistics

LOW_RATES = 0.01, 0.02, 0.035, 0.06, 0.1, 0.2, 0.35, 0.5
RATES = LOW_RATES + tuple(1 - rate for rate in LOW_RATES[-2::-1])
PROBLEMS = 30, 100, 500
SAMPLES = 1, 16, 64
# a + b of a Beta distribution of the problems' pass rates: 0 is all or nothing,
# 1 has the shape of a U, inf is the same rate for all problems. 'rare': half of
# the mean are problems that are always solved, the others have the same rate.
SHAPES = 0.0, 0.2, 1.0, 5.0, 50.0, math.inf, 'rare'
RATINGS = 900, 1400, 1900, 2600
# (attempts, agreement): the correlation of the attempts at a problem.
ATTEMPTS = (1, 0.0), (4, 0.0), (16, 0.0), (16, 0.2), (16, 0.6), (16, 1.0)
CONTESTS = 'wide', 'near', 'far apart'


def pass_rates(
  rng: np.random.Generator, rate: float, shape: float | str, size: tuple
) -> np.ndarray:
  """Pass rates of problems with the mean `rate`."""
  if shape == 'rare':
    always = rng.random(size) < rate / 2
    return np.where(always, 1.0, rate / 2 / (1 - rate / 2))
  if shape == 0:
    return (rng.random(size) < rate).astype(float)
  if shape == math.inf:
    return np.full(size, rate)
  a, b = rate * float(shape), (1 - rate) * float(shape)
  return rng.beta(a, b, size)


def pass1(
  problems: int, samples: int, rate: float, shape: float | str, runs: int
) -> tuple[float, float]:
  """(coverage, mean width) of the interval of pass@1."""
  rng = np.random.default_rng(round(1e4 * rate))
  rate_PN = pass_rates(rng, rate, shape, (problems, runs))
  share_PN = rng.binomial(samples, rate_PN) / samples
  return _measure(rate, *statistics.mean_intervals(share_PN))


def pass_at_k(
  problems: int, samples: int, k: int, rate: float, shape: float, runs: int
) -> tuple[float, float]:
  """The same of pass@k."""
  rng = np.random.default_rng(round(1e4 * rate))
  many = pass_rates(rng, rate, shape, (1_000_000,))
  truth = float(1 - ((1 - many) ** k).mean())
  columns = []
  for _ in range(runs):
    rate_P = pass_rates(rng, rate, shape, (problems,))
    correct_PG = rng.random((problems, samples)) < rate_P[:, None]
    columns.append(statistics.pass_at_k_of_problems(correct_PG, k))
  return _measure(truth, *statistics.mean_intervals(np.array(columns).T))


def paired(
  problems: int,
  samples: int,
  rate: float,
  shape: float,
  is_alike: bool,
  runs: int,
) -> tuple[float, float]:
  """The same of the difference of two models, one at `rate`, the other at 0.9
  rate + 0.01: so for each problem if they are alike, else independently."""
  rng = np.random.default_rng(round(1e4 * rate))
  first_PN = pass_rates(rng, rate, shape, (problems, runs))
  second_PN = 0.9 * first_PN + 0.01
  if not is_alike:
    second_PN = pass_rates(rng, 0.9 * rate + 0.01, shape, (problems, runs))
  shares = [rng.binomial(samples, x) / samples for x in (first_PN, second_PN)]
  low_N, high_N = statistics.mean_intervals(shares[0] - shares[1], -1.0, 1.0)
  return _measure(0.1 * rate - 0.01, low_N, high_N)


def ratings(
  true: float, contest: str, problems: int, attempts: tuple, runs: int
) -> tuple[float, float]:
  """The same of a Codeforces rating; the median width."""
  rng = np.random.default_rng(round(true))
  low_N, high_N = np.zeros(runs), np.zeros(runs)
  for n in range(runs):
    d_P = difficulties(rng, contest, problems)
    solved_PG = solve(rng, true - d_P, *attempts)
    _, low_N[n], high_N[n] = rating.fit(d_P, solved_PG)
  covered = np.mean((low_N <= true) & (true <= high_N))
  return float(covered), float(np.median(high_N - low_N))


def difficulties(
  rng: np.random.Generator, contest: str, problems: int
) -> np.ndarray:
  """Ratings of problems, 800 to 2,800, all near 1,500, or 900 and 2,700."""
  if contest == 'near':
    return 1500 + rng.uniform(-200, 200, problems)
  level_P = np.arange(problems)
  if contest == 'wide':
    return 800 + 400 * (level_P % 6) + rng.uniform(-100, 100, problems)
  return 900 + 1800 * (level_P % 2) + rng.uniform(-50, 50, problems)


def solve(
  rng: np.random.Generator, x_P: np.ndarray, attempts: int, agreement: float
) -> np.ndarray:
  """Attempts at problems rated x below the contestant, bool [P, attempts]."""
  p_P = 1 / (1 + 10 ** (-x_P / 400))
  if agreement == 1:
    p_P = (rng.random(len(p_P)) < p_P).astype(float)
  elif agreement:
    size = 1 / agreement - 1  # a + b of the Beta distribution
    p_P = rng.beta(p_P * size + 1e-9, (1 - p_P) * size + 1e-9)
  return rng.random((len(p_P), attempts)) < p_P[:, None]


def _measure(truth, low_N, high_N):
  covered_N = (low_N <= truth + 1e-12) & (truth <= high_N + 1e-12)
  return float(covered_N.mean()), float((high_N - low_N).mean())


def print_table(head: Sequence[str], rows: Sequence[Sequence]) -> None:
  for row in [head, ['---'] * len(head), *rows]:
    print('| ' + ' | '.join(str(cell) for cell in row) + ' |', flush=True)


def main(runs: int = 1000) -> None:
  rows = []
  for problems in PROBLEMS:
    for samples in SAMPLES:
      for shape in SHAPES if samples > 1 else SHAPES[:1]:
        cells = [pass1(problems, samples, x, shape, runs) for x in RATES]
        least = min((cell[0], rate) for cell, rate in zip(cells, RATES))
        widths = [f'{cells[n][1]:.3f}' for n in (0, 4, 7)]
        row = [problems, samples, shape, f'{least[0]:.3f}', f'{least[1]:.3f}']
        rows.append([*row, *widths])
  head = ['problems', 'samples', 'a + b', 'lowest coverage', 'at pass@1']
  print_table([*head, 'width at 0.01', '0.1', '0.5'], rows)
  rows = []
  for problems in PROBLEMS:
    for shape in (0.2, 1.0, 50.0):
      cells = [pass_at_k(problems, 16, 4, x, shape, runs) for x in RATES]
      row = [problems, 'pass@4 of 16', shape]
      rows.append([*row, f'{min(cells)[0]:.3f}', f'{cells[7][1]:.3f}'])
      for is_alike in (True, False):
        cells = [
          paired(problems, 16, rate, shape, is_alike, runs) for rate in RATES
        ]
        kind = 'difference, ' + ('alike' if is_alike else 'independent')
        row = [problems, kind, shape]
        rows.append([*row, f'{min(cells)[0]:.3f}', f'{cells[7][1]:.3f}'])
  head = ['problems', 'of', 'a + b', 'lowest coverage', 'width at 0.5']
  print_table(head, rows)
  rows = []
  for problems in (12, 36):
    for contest in CONTESTS:
      for attempts in ATTEMPTS:
        cells = [
          ratings(true, contest, problems, attempts, runs // 4)
          for true in RATINGS
        ]
        widths = [f'{cell[1]:.0f}' for cell in cells]
        row = [problems, contest, *attempts, f'{min(cells)[0]:.3f}']
        rows.append([*row, *widths])
  head = ['problems', 'contest', 'attempts', 'agreement', 'lowest coverage']
  print_table([*head, *(f'width at {true}' for true in RATINGS)], rows)


if __name__ == '__main__':
  main()
