"""Curves as SVG. The script of the page shows their values under the pointer."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from r1jax.reports import curves, elements

SMOOTHING = Markup(
  '<p class="grey"><label><input type="checkbox" id="smoothing" checked> smoothed: for each '
  'step the straight line through the steps around it (5 % on each side), with '
  'what was recorded lighter beneath</label></p>'
)
WIDTH, HEIGHT = 400, 200  # as in page.js
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 8, 24
STYLES = 6  # colours of the style sheet; further curves are dashed
MANY = 4  # of more curves than these what was recorded is drawn paler
TICKS = 5
DIGITS = 5


@dataclasses.dataclass(frozen=True)
class Series:
  """A curve, with an interval where it has one."""

  label: str
  steps: np.ndarray
  values: np.ndarray
  low: np.ndarray | None = None
  high: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Mark:
  """A step at which something happened to the run."""

  step: int
  text: str


@dataclasses.dataclass(frozen=True)
class Chart:
  title: str
  unit: str
  series: Sequence[Series]
  sentences: Sequence[tuple[str, str]] = ()  # (curve, what it means)
  least: float | None = None  # of the vertical axis, where that is fixed
  largest: float | None = None
  marks: Sequence[Mark] = ()
  is_exact: bool = False  # not smoothed


@dataclasses.dataclass(frozen=True)
class Axes:
  """The steps and values at the edges of a chart."""

  x0: float
  x1: float
  y0: float
  y1: float

  def x(self, steps: Any) -> Any:
    width = WIDTH - LEFT - RIGHT
    if self.x1 == self.x0:
      return LEFT + width / 2 + 0 * steps
    return LEFT + width * (steps - self.x0) / (self.x1 - self.x0)

  def y(self, values: Any) -> Any:
    height = HEIGHT - TOP - BOTTOM
    return TOP + height * (self.y1 - values) / (self.y1 - self.y0)


def is_smoothed(chart: Chart) -> bool:
  """Whether the chart has smoothed curves beside the recorded ones."""
  return any(_is_smoothed(chart, series) for series in chart.series)


def sections(
  charts: Mapping[str, Sequence[Chart]], between: Iterable[object] = ()
) -> list[object]:
  """Parts of a page: the charts by title, with other parts after the first."""
  parts: list[object] = []
  count = 0
  for title, made in charts.items():
    parts.append(elements.heading(title))
    if not count and any(is_smoothed(x) for xs in charts.values() for x in xs):
      parts.append(SMOOTHING)
    parts.append(section(made, count))
    if not count:
      parts += between
    count += len(made)
  return parts


def section(charts: Sequence[Chart], first: int = 0) -> Markup:
  """The charts beside each other. `first` is the number of the first one in the
  data of the page."""
  figures = [figure(chart, n) for n, chart in enumerate(charts, first)]
  return Markup(f'<div class="charts">\n{elements.join(figures)}\n</div>')


def figure(chart: Chart, number: int) -> Markup:
  """A chart with its title, its legend and what its curves mean."""
  legend = []
  if len(chart.series) > 1:
    for n, series in enumerate(chart.series):
      key = f'<i class="key {_style(n)}"></i>'
      legend.append(f'<span>{key}{elements.escape(series.label)}</span>')
  sentences = []
  for label, sentence in chart.sentences:
    name = f'<b>{elements.escape(label)}</b> ' if label else ''
    sentences.append(f'<p>{name}{elements.escape(sentence)}</p>')
  legend_line = f'<div class="legend">{"".join(legend)}</div>' if legend else ''
  return Markup(
    f'<figure class="chart" data-chart="{number}">\n'
    f'<figcaption><h3>{elements.escape(chart.title)}</h3>'
    f'<span class="grey">{elements.escape(chart.unit)}</span></figcaption>\n'
    f'{legend_line}<div class="plot">{svg(chart)}<output></output></div>\n'
    f'<div class="meaning">{"".join(sentences)}</div>\n</figure>'
  )


def svg(chart: Chart) -> Markup:
  """The axes and curves of a chart."""
  axes = axes_of(chart)
  label = elements.escape(f'{chart.title}: {chart.unit}')
  kind = ' class="many"' if len(chart.series) > MANY else ''
  lines = [
    f'<svg{kind} viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
    f'aria-label="{label}" tabindex="0">',
    *_grid(axes),
  ]
  for mark in chart.marks:
    if axes.x0 <= mark.step <= axes.x1:
      x = axes.x(mark.step)
      lines.append(
        f'<path class="mark" d="M{x:.1f},{TOP}V{HEIGHT - BOTTOM}">'
        f'<title>{elements.escape(mark.text)}</title></path>'
      )
  for n, series in enumerate(chart.series):
    lines += _curve(axes, series, _style(n), _is_smoothed(chart, series))
  for n, series in enumerate(chart.series):
    if _is_smoothed(chart, series):
      lines.append(_smooth_curve(axes, series, _style(n)))
  lines.append('<g class="cursor"></g></svg>')
  return Markup('\n'.join(lines))


def axes_of(chart: Chart) -> Axes:
  """The ranges that all curves fit into."""
  steps = np.concatenate([series.steps for series in chart.series])
  values = [series.values for series in chart.series]
  low = min(_least(x) for x in values)
  high = max(-_least(-x) for x in values)
  # An interval of two seeds may be so wide that all means would look equal.
  reach = 2 * (high - low)
  for series in chart.series:
    if series.low is not None and series.high is not None:
      low = min(low, max(_least(series.low), low - reach))
      high = max(high, min(-_least(-series.high), high + reach))
  margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
  y0, y1 = low - margin, high + margin
  if low >= 0 > y0:
    y0 = 0.0
  if chart.least is not None and chart.least <= low:
    y0 = chart.least
  if chart.largest is not None and chart.largest >= high:
    y1 = chart.largest
  return Axes(x0=float(steps.min()), x1=float(steps.max()), y0=y0, y1=y1)


def hover(charts: Mapping[str, Sequence[Chart]]) -> list[dict[str, Any]]:
  """What the script of the page needs to show the values of the charts of all
  sections."""
  found = []
  for chart in itertools.chain(*charts.values()):
    axes, entries = axes_of(chart), []
    for series in chart.series:
      values = curves.clean(series.values)
      kept = curves.kept(values)
      entry = dict(label=series.label, x=series.steps[kept].tolist())
      entry['y'] = _rounded(values[kept])
      if _is_smoothed(chart, series):
        entry['smooth'] = _rounded(curves.smooth(values)[kept])
      if series.low is not None and series.high is not None:
        entry['low'] = _rounded(curves.clean(series.low)[kept])
        entry['high'] = _rounded(curves.clean(series.high)[kept])
      entries.append(entry)
    edges = [axes.x0, axes.x1, axes.y0, axes.y1]
    found.append(dict(axes=edges, series=entries))
  return found


def _is_smoothed(chart, series):
  return len(series.steps) > curves.SMOOTH_FROM and not chart.is_exact


def _style(n):
  """The CSS classes of the n-th curve."""
  return f's{n % STYLES}' + (' dashed' if n // STYLES % 2 else '')


def _least(values):
  return curves.clean(values)[np.isfinite(curves.clean(values))].min(
    initial=np.inf
  )


def _rounded(values):
  """The numbers with DIGITS digits, None where they are missing."""
  texts = [f'{x:.{DIGITS}g}' if np.isfinite(x) else '' for x in values]
  return [float(text) if text else None for text in texts]


def _grid(axes):
  """Lines and texts of the axes."""
  lines, bottom = [], HEIGHT - BOTTOM
  marks = curves.ticks(axes.y0, axes.y1, TICKS)
  for value in marks:
    y = axes.y(value)
    text = curves.tick_text(value, (axes.y1 - axes.y0) / TICKS)
    lines.append(f'<path class="grid" d="M{LEFT},{y:.1f}H{WIDTH - RIGHT}"/>')
    lines.append(
      f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="y">{text}</text>'
    )
  if axes.x1 == axes.x0:
    steps = [axes.x0]
  else:
    steps = curves.ticks(axes.x0, axes.x1, TICKS)
  for step in steps:
    if step == round(step):
      text = curves.tick_text(step, 1)
      lines.append(
        f'<text x="{axes.x(step):.1f}" y="{bottom + 16}" class="x">{text}</text>'
      )
  return lines


def _curve(axes, series, style, is_smoothed):
  """The interval and the recorded curve."""
  values, lines = curves.clean(series.values), []
  kept = curves.kept(values)
  x_T = axes.x(series.steps[kept].astype(float))
  if series.low is not None and series.high is not None:
    low_T = curves.clean(series.low)[kept]
    high_T = curves.clean(series.high)[kept]
    has_T = np.isfinite(low_T) & np.isfinite(high_T)
    edge = [*zip(x_T[has_T], axes.y(low_T[has_T]))]
    edge += [*zip(x_T[has_T], axes.y(high_T[has_T]))][::-1]
    if len(edge) > 2:
      points = ' '.join(
        f'{x:.1f},{np.clip(y, TOP, HEIGHT - BOTTOM):.1f}' for x, y in edge
      )
      lines.append(f'<polygon class="band {style}" points="{points}"/>')
  kind = 'raw' if is_smoothed else 'line'
  path = _path(x_T, axes.y(values[kept]))
  lines.append(f'<path class="{kind} {style}" d="{path}"/>')
  if len(values) <= curves.SMOOTH_FROM:
    for x, y in zip(x_T, axes.y(values[kept])):
      if np.isfinite(y):
        lines.append(
          f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>'
        )
  return lines


def _smooth_curve(axes, series, style):
  values = curves.clean(series.values)
  kept = curves.kept(values)
  x_T = axes.x(series.steps[kept].astype(float))
  path = _path(x_T, axes.y(curves.smooth(values)[kept]))
  return f'<path class="smooth {style}" d="{path}"/>'


def _path(x_T, y_T):
  """The path through the points; it is interrupted where values are missing,
  and a point between two missing ones is a dot."""
  parts, command = [], 'M'
  for n, (x, y) in enumerate(zip(x_T, y_T)):
    if not np.isfinite(y):
      command = 'M'
      continue
    parts.append(f'{command}{x:.1f},{y:.1f}')
    is_last = n + 1 == len(y_T) or not np.isfinite(y_T[n + 1])
    if command == 'M' and is_last:
      parts.append('h0')
    command = 'L'
  return ''.join(parts)
