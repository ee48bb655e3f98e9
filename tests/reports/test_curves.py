"""What is drawn of a curve does not differ from it where it matters."""

import numpy as np
import pytest

from r1jax.reports import curves


def test_smoothing_keeps_lines_up_to_both_ends():
  line = 3.0 - np.arange(60) / 7
  np.testing.assert_allclose(curves.smooth(line), line, atol=1e-12)


def test_smoothing_ignores_missing_values():
  values = np.full(60, 0.5)
  values[[0, 7, 8, 59]] = np.nan
  np.testing.assert_allclose(curves.smooth(values), 0.5)
  assert np.isnan(curves.smooth(np.full(60, np.nan))).all()


def test_smoothing_is_the_running_mean_inside_and_does_not_lag_at_the_end():
  values = np.random.default_rng(0).normal(size=100) + np.arange(100)
  smoothed = curves.smooth(values)
  assert curves.half_width(100) == 5
  assert smoothed[50] == pytest.approx(values[45:56].mean())
  fit = np.polyfit(np.arange(94, 100), values[94:], 1)
  assert smoothed[-1] == pytest.approx(np.polyval(fit, 99))


def test_smoothing_stays_within_the_values_around():
  values = np.where(np.arange(200) < 100, 0.0, 1.0)
  smoothed = curves.smooth(values)
  assert smoothed.min() == 0 and smoothed.max() == 1


def test_smoothing_of_many_steps_loses_no_digits():
  values = 1e6 + np.arange(100_000) * 1e-3
  np.testing.assert_allclose(curves.smooth(values), values, rtol=0, atol=1e-5)


def test_a_long_curve_keeps_its_extremes_and_its_ends():
  values = np.random.default_rng(1).normal(size=100_000)
  values[[77_777, 31_415]] = 50, -50
  values[500:2000] = np.nan
  kept = curves.kept(values)
  assert len(kept) <= 6 * curves.BUCKETS
  assert {0, 31_415, 77_777, 99_999} <= set(kept.tolist())
  assert np.isnan(values[kept]).any()  # the gap remains one
  assert (np.diff(kept) > 0).all()


def test_numbers_that_cannot_be_drawn_are_missing():
  values = np.array([1.0, np.inf, -np.inf, np.nan, 1e301])
  np.testing.assert_array_equal(np.isnan(curves.clean(values)), [0, 1, 1, 1, 1])


@pytest.mark.parametrize(
  'low, high, texts',
  [
    (0, 1, ['0', '0.2', '0.4', '0.6', '0.8', '1']),
    (-0.21, 0.01, ['-0.2', '-0.15', '-0.1', '-0.05', '0']),
    (0, 60_000, ['0', '20k', '40k', '60k']),
    (0, 2e30, ['0', '5e29', '1e30', '1.5e30', '2e30']),
    (1e-9, 2.9e-9, ['1e-9', '1.5e-9', '2e-9', '2.5e-9']),
  ],
)
def test_ticks_are_round_numbers(low, high, texts):
  found = curves.ticks(low, high, 5)
  assert [curves.tick_text(x, (high - low) / 5) for x in found] == texts
