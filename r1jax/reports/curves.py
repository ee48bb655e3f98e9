"""What is drawn of a metric: which points, how they are smoothed, and ticks."""

import math

import numpy as np
from scipy import ndimage

LARGEST = 1e300  # numbers beyond it are drawn as missing
SMOOTH_FROM = 30  # steps of a curve
BUCKETS = 250  # of steps, in a long curve


def clean(values: np.ndarray) -> np.ndarray:
  """The values as floats, NaN where they are missing or not finite."""
  values = np.asarray(values, dtype=float)
  with np.errstate(invalid='ignore'):
    return np.where(abs(values) < LARGEST, values, np.nan)


def half_width(points: int) -> int:
  """The steps on each side of a step that its smoothed value is made of."""
  return max(1, points // 20)


def smooth(values: np.ndarray) -> np.ndarray:
  """For each point the value of the straight line that fits the points within
  half_width of it best, limited to the range of these points.

  In the middle this is the running mean. At the ends, where a running mean of
  the points that are left lags behind, a line remains a line.
  """
  width, finite = half_width(len(values)), np.isfinite(values)
  count_T, sum_T, slope_T, centre_T = _fit(values, finite, width)
  fitted = np.where(count_T > 0, sum_T / np.maximum(count_T, 1), np.nan)
  fitted += slope_T * (np.arange(len(values)) - centre_T)
  low, high = _range(values, width)
  return np.clip(fitted, low, high)


def _fit(values, finite, width):
  """(number, sum, slope, mean place) of the points in the window of each."""
  place = np.arange(len(values), dtype=float)
  known = np.where(finite, values, 0)
  # Without the mean, so that little is lost in the differences of large sums.
  shift = known.sum() / max(1, finite.sum())
  known = np.where(finite, values - shift, 0)
  sums = [
    _window_sums(x, width)
    for x in (finite, known, finite * place, finite * place**2, known * place)
  ]
  count, total, place_1, place_2, product = sums
  centre = place_1 / np.maximum(count, 1)
  spread = place_2 - count * centre**2
  has_slope = (count > 1) & (spread > 1e-3)
  slope = np.divide(
    product - total * centre, spread, np.zeros(len(values)), where=has_slope
  )
  return count, total + shift * count, slope, centre


def _window_sums(x, width):
  """The sums over the points within `width` of each."""
  totals = np.concatenate([[0.0], np.cumsum(x, dtype=np.longdouble)])
  place = np.arange(len(x))
  ends = np.minimum(place + width + 1, len(x))
  sums = totals[ends] - totals[np.maximum(place - width, 0)]
  return sums.astype(float)


def _range(values, width):
  """The least and the largest value in the window of each point."""
  size, finite = 2 * width + 1, np.isfinite(values)
  low = np.where(finite, values, np.inf)
  high = np.where(finite, values, -np.inf)
  low = ndimage.minimum_filter1d(low, size, mode='constant', cval=np.inf)
  high = ndimage.maximum_filter1d(high, size, mode='constant', cval=-np.inf)
  return low, np.maximum(low, high)


def kept(values: np.ndarray) -> np.ndarray:
  """The numbers of the points that are drawn: all, or of each bucket of a long
  curve the first, the last, the least and the largest (M4)."""
  size = len(values)
  if size <= 4 * BUCKETS:
    return np.arange(size)
  edges = np.linspace(0, size, BUCKETS + 1).astype(int)
  found = []
  for start, end in zip(edges, edges[1:]):
    part = values[start:end]
    found += [start, end - 1]
    if np.isfinite(part).any():
      known = np.flatnonzero(np.isfinite(part))
      found += [
        start + int(np.nanargmin(part)),
        start + int(np.nanargmax(part)),
      ]
      found += [start + int(known[0]), start + int(known[-1])]
  return np.unique(found)


def ticks(low: float, high: float, count: int) -> list[float]:
  """About `count` round numbers from low to high."""
  step = _round_step((high - low) / count)
  first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  return [n * step for n in range(first, last + 1)]


def _round_step(step):
  """The next of 1, 2, 5, 10, 20, 50, … times a power of ten."""
  power = 10.0 ** math.floor(math.log10(step))
  for factor in (1, 2, 5):
    if step <= factor * power * (1 + 1e-9):
      return factor * power
  return 10 * power


def tick_text(value: float, step: float) -> str:
  """A tick, without the rounding errors of its product."""
  value = 0.0 if abs(value) < step / 1e3 else value
  if abs(value) >= 1e13 or 0 < abs(value) < 1e-4:
    return f'{value:.3g}'.replace('e+', 'e').replace('e-0', 'e-')
  for size, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if abs(value) >= 10 * size or (letter != 'k' and abs(value) >= size):
      return f'{value / size:.6g}{letter}'
  return f'{value:.6g}'
