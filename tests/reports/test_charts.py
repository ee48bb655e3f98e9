"""Charts are well-formed SVG, whatever the numbers are."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from r1jax.reports import charts
from r1jax.reports.charts import Chart, Mark, Series

NAN = np.nan


def chart(*values, **options):
  series = []
  for n, one in enumerate(values):
    steps = np.arange(1, len(one) + 1)
    series.append(Series(f'<{n}>', steps, np.array(one, dtype=float)))
  return Chart(title='a & b', unit='<u>', series=series, **options)


def elements_of(one, tag):
  tree = ET.fromstring(charts.svg(one))
  return [x.attrib for x in tree.iter(tag)]


@pytest.mark.parametrize(
  'values',
  [
    [5.0],
    [0.0, 0.0],
    [NAN, 1.0, NAN, 2.0, 3.0],
    [1e-300, 2e-300],
    [-1e299, 1e299],
    np.linspace(0, 1, 2000),
    [np.inf, 1.0, -np.inf],
  ],
)
def test_every_curve_is_drawn_within_the_chart(values):
  figure = charts.figure(chart(values), 0)
  ET.fromstring(figure)
  assert 'nan' not in figure and 'inf' not in figure
  for circle in elements_of(chart(values), 'circle'):
    assert charts.LEFT <= float(circle['cx']) <= charts.WIDTH - charts.RIGHT
    assert 0 <= float(circle['cy']) <= charts.HEIGHT


def test_a_missing_value_interrupts_the_curve_and_a_lone_one_is_a_dot():
  (path,) = [
    x['d']
    for x in elements_of(chart([1, NAN, 2, NAN, 3, 4]), 'path')
    if x['class'].startswith('line')
  ]
  assert path.count('M') == 3 and path.count('h0') == 2 and path.count('L') == 1


def test_a_smoothed_curve_has_what_was_recorded_beneath():
  kinds = [x['class'] for x in elements_of(chart(range(40)), 'path')]
  curves = [x for x in kinds if x.startswith(('raw', 'smooth', 'line'))]
  assert curves == ['raw s0', 'smooth s0']
  assert charts.is_smoothed(chart(range(40)))
  assert not charts.is_smoothed(chart(range(30)))
  assert not charts.is_smoothed(chart(range(40), is_exact=True))


def test_seven_curves_can_be_told_apart():
  figure = charts.figure(chart(*[[n, n] for n in range(7)]), 0)
  assert 'class="key s5"' in figure and 'class="key s0 dashed"' in figure
  assert '&lt;6&gt;' in figure


def test_wide_intervals_do_not_hide_the_means():
  steps = np.array([1, 2])
  wide = Series('', steps, np.array([0.0, 1.0]), steps - 99.0, steps + 99.0)
  axes = charts.axes_of(Chart(title='', unit='', series=[wide]))
  assert -3 < axes.y0 < 0 and 1 < axes.y1 < 4


def test_fixed_axes_give_way_to_values_beyond_them():
  axes = charts.axes_of(chart([0.2, 0.4], least=0, largest=1))
  assert (axes.y0, axes.y1) == (0, 1)
  axes = charts.axes_of(chart([-1.0, 3.0], least=0, largest=1))
  assert axes.y0 < -1 and axes.y1 > 3


def test_marks_outside_the_curve_are_left_out():
  marks = [Mark(2, '<resumed>'), Mark(90, 'later')]
  svg = charts.svg(chart([1, 2, 3], marks=marks))
  assert '&lt;resumed&gt;' in svg and 'later' not in svg


def test_the_numbers_under_the_pointer_are_those_of_the_run():
  (found,) = charts.hover(dict(a=[chart([1, NAN, 1 / 3])]))
  (series,) = found['series']
  assert series == dict(label='<0>', x=[1, 2, 3], y=[1.0, None, 0.33333])
