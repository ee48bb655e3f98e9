"""The intervals of evaluations cover the truth in simulations: a small part of
the tables that the script prints."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.benchmarks import coverage
from r1jax.evaluation import statistics

SHAPES = [(16, 0.2), (64, 0.2), (64, 1.0), (64, math.inf), (64, 'rare')]


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
  monkeypatch.setattr(statistics, 'RESAMPLES', 2_000)


@pytest.mark.parametrize('samples, shape', SHAPES)
def test_intervals_of_pass1_cover_it_at_all_rates(samples, shape):
  for rate in (0.01, 0.02, 0.06, 0.5, 0.94, 0.99):
    covered, _ = coverage.pass1(30, samples, rate, shape, 300)
    assert covered >= 0.93, rate


@pytest.mark.parametrize('problems', [30, 100])
def test_intervals_of_whole_problems_cover_every_rate_by_exact_sums(problems):
  """One sample each, or samples that all agree."""
  solved = np.arange(problems + 1)
  solved_PN = np.arange(problems)[:, None] < solved
  low_N, high_N = statistics.mean_intervals(solved_PN.astype(float))
  for rate in np.linspace(0.01, 0.99, 197):
    covers_N = (low_N <= rate) & (rate <= high_N)
    assert stats.binom.pmf(solved, problems, rate) @ covers_N >= 0.935, rate


def test_intervals_are_as_narrow_as_the_problems_are_alike():
  widths = [
    coverage.pass1(100, 64, 0.5, x, 50)[1] for x in (math.inf, 5.0, 0.0)
  ]
  assert widths == sorted(widths) and widths[2] > 3 * widths[0]


@pytest.mark.parametrize('shape', [0.2, 50.0])
def test_intervals_of_paired_differences_and_of_pass_at_k_cover_them(shape):
  for rate in (0.03, 0.5):
    covered, _ = coverage.pass_at_k(30, 16, 4, rate, shape, 200)
    assert covered >= 0.93
    for is_alike in (True, False):
      covered, _ = coverage.paired(30, 16, rate, shape, is_alike, 200)
      assert covered >= 0.93


@pytest.mark.parametrize('contest', coverage.CONTESTS)
def test_intervals_of_ratings_from_twelve_problems_cover_them(contest):
  for attempts in ((1, 0.0), (16, 0.2), (16, 1.0)):
    covered, _ = coverage.ratings(1900, contest, 12, attempts, 40)
    assert covered >= 0.93
