"""The panels of a report as one image, for a README or a notebook."""

import math
from pathlib import Path

from matplotlib import figure, layout_engine, ticker

from r1jax.reports import curves, elements, run_metrics
from r1jax.reports.metric_texts import Panel
from r1jax.reports.run_metrics import Curves

COLUMNS = 3
LEFT_OUT = ('Time', run_metrics.OTHERS)  # sections


def panels(found: Curves) -> list[tuple[Panel, list[str]]]:
  """The panels that are drawn, with the names of their metrics."""
  drawn = []
  for title, filled in run_metrics.sections(found).items():
    if title not in LEFT_OUT:
      drawn += filled
  return drawn or next(iter(run_metrics.sections(found).values()), [])


def draw(found: Curves, path: str | Path) -> None:
  """Draws the panels of a run."""
  drawn = panels(found)
  rows = max(1, math.ceil(len(drawn) / COLUMNS))
  layout = layout_engine.ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
  picture = figure.Figure(figsize=(12.5, 3.1 * rows), layout=layout)
  grid = picture.subplots(rows, COLUMNS, squeeze=False).flatten()
  for axes, (panel, names) in zip(grid, drawn):
    _draw_panel(axes, panel, names, found)
  for axes in grid[len(drawn) :]:
    axes.set_axis_off()
  picture.savefig(path, dpi=110)


def _draw_panel(axes, panel, names, found):
  for name, colour in zip(names, elements.COLOURS):
    steps, values = found[name]
    label = run_metrics.curve_label(name)
    if len(steps) <= curves.SMOOTH_FROM:
      axes.plot(steps, values, color=colour, marker='.', label=label)
    else:
      axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
      axes.plot(steps, curves.smooth(values), color=colour, label=label)
    low, high = run_metrics.interval(name, found)
    if low is not None and high is not None:
      axes.fill_between(steps, low, high, color=colour, alpha=0.2, lw=0)
  if panel.largest == 1 and panel.least == 0:
    axes.set_ylim(0, 1.02)
  axes.set_title(panel.title, loc='left', fontsize=11, fontweight='bold')
  axes.set_ylabel(panel.unit, fontsize=9)
  axes.set_xlabel('step', fontsize=9)
  axes.tick_params(labelsize=8)
  axes.grid(color='#e5e5e5')
  axes.spines[['top', 'right']].set_visible(False)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
  axes.yaxis.set_major_formatter(_tick)
  if len(names) > 1:
    axes.legend(fontsize=8, frameon=False)


def _tick(value, _):
  return f'{value:g}'
