"""What a comparison of runs has found: a table, a figure, a page."""

import dataclasses
import io
import os
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import figure, layout_engine, ticker

from r1jax import files
from r1jax.ablation import grid
from r1jax.evaluation import statistics, tables
from r1jax.reports import charts, curves, elements, groups, header, page
from r1jax.reports.charts import Chart
from r1jax.stages import report
from r1jax.training import run_record

SHOWN_STEPS = 60  # with samples, of all runs of a page
CURVES = (
  'Curves are means over the seeds of a setting, bands their 95 % intervals; '
  'with smoothing those of the smoothed curves.'
)
DASHES = '-', '--', ':'  # of lines that have the same colour


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
  """`settings` has a row for each setting: the values by key, `seeds`, and of
  `value` over the seeds `mean`, `std`, the 95 % interval `low` to `high`, and
  the `difference` to the baseline over the `pairs` of runs with the same seed,
  with its interval. `runs` has a row for each run. What one seed or the baseline
  does not have is None."""

  value: str  # the metric, and the steps at which it was taken
  keys: tuple[str, ...]
  settings: list[dict[str, Any]]
  runs: list[dict[str, Any]]  # workdir, setting, seed, value
  left_out: dict[Path, str]  # why, by work directory
  notes: list[str]
  figure: figure.Figure
  charts: dict[str, list[Chart]]  # of all metrics, by section

  @property
  def table(self) -> Any:
    """The settings: a DataFrame if pandas is installed, else the list."""
    return tables.data_frame(self.settings)

  def save(self, path: str | Path) -> None:
    """Writes a page: the table, the notes, charts of all metrics, samples, and
    the runs with links to their files."""
    files.check_local(path, 'the page')
    path, shown = Path(path), self._groups()
    between = report.group_parts(shown) if shown else []
    parts = [
      elements.table(self._head(), self._cells()),
      *(elements.note(text) for text in self.notes),
      *_facts([run['workdir'] for run in self.runs]),
      elements.note(CURVES),
      *charts.sections(self.charts, between),
      elements.heading('Runs'),
      self._runs(path.parent),
    ]
    text = page.render(
      self.value,
      parts,
      subtitle='r1jax: comparison of runs',
      data=dict(charts=charts.hover(self.charts), groups=shown),
    )
    files.write_text(path, text)

  def _runs(self, folder):
    """The table of the runs, for a page in `folder`."""
    rows = []
    for run in self.runs:
      links = _links(run['workdir'], folder)
      value = number(run['value'])
      rows.append([links, run['setting'], str(run['seed']), value])
    for workdir, reason in self.left_out.items():
      rows.append([_links(workdir, folder), reason, '', ''])
    return elements.table(['run', 'setting', 'seed', 'value'], rows)

  def _groups(self):
    """The logged groups of all runs, fewer steps of each if there are many."""
    shown: groups.Groups = []
    for run in self.runs:
      name = f'{run["setting"]}, seed {run["seed"]}'
      count = max(2, SHOWN_STEPS // len(self.runs))
      shown += report.read_groups(run['workdir'], name, count)
    return shown

  def _repr_html_(self) -> str:
    return '\n'.join(
      [
        elements.image(png(self.figure)),
        elements.table(self._head(), self._cells()),
        *(elements.note(text) for text in self.notes),
      ]
    )

  def __repr__(self) -> str:
    """The value, the table and the notes as text."""
    rows = [self._head(), *self._cells()]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [self.value]
    for row in rows:
      cells = [cell.ljust(width) for cell, width in zip(row, widths)]
      lines.append('  '.join(cells).rstrip())
    return '\n'.join(lines + self.notes)

  def _head(self):
    head = [*self.keys, 'seeds', 'mean', 'standard deviation', '95 % interval']
    return [*head, 'difference, 95 % interval', 'pairs']

  def _cells(self):
    """The rows of the table as text."""
    rows = []
    for row in self.settings:
      difference = number(row['difference'], '+')
      interval = interval_text(row['difference_low'], row['difference_high'])
      cells = [grid.value_text(row[key]) for key in self.keys]
      cells += [str(row['seeds']), number(row['mean']), number(row['std'])]
      cells += [interval_text(row['low'], row['high'])]
      cells += [f'{difference} {interval}'.strip(), str(row['pairs'] or '')]
      rows.append(cells)
    return rows


def draw(
  metric: str, steps_T: np.ndarray, by_label: dict[str, np.ndarray]
) -> figure.Figure:
  """The means over seeds of the curves of each setting, [seeds, steps], with
  their 95 % intervals."""
  layout = layout_engine.ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
  picture = figure.Figure(figsize=(12.5, 5), layout=layout)
  axes = picture.subplots()
  title = f'{metric}: mean over seeds, 95 % interval'
  is_long = len(steps_T) > curves.SMOOTH_FROM
  if is_long:
    title += ' (running means of the runs)'
  for n, (label, values_ST) in enumerate(by_label.items()):
    if is_long:
      values_ST = np.stack([curves.smooth(values_T) for values_T in values_ST])
    cycle, place = divmod(n, len(elements.COLOURS))
    colour, mean_T = elements.COLOURS[place], values_ST.mean(axis=0)
    axes.plot(
      steps_T,
      mean_T,
      color=colour,
      linestyle=DASHES[cycle % len(DASHES)],
      marker='' if is_long else '.',
      label=label,
    )
    if len(values_ST) > 1:
      margin_T = statistics.t_margin(values_ST)
      low_T, high_T = mean_T - margin_T, mean_T + margin_T
      axes.fill_between(steps_T, low_T, high_T, color=colour, alpha=0.15, lw=0)
  _limit(axes, list(by_label.values()))
  axes.set_title(title, loc='left', fontsize=11, fontweight='bold')
  axes.set_xlabel('step', fontsize=9)
  axes.tick_params(labelsize=8)
  axes.grid(color='#e5e5e5')
  axes.spines[['top', 'right']].set_visible(False)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
  picture.legend(fontsize=9, frameon=False, loc='outside lower left', ncols=2)
  return picture


def _limit(axes, runs):
  """Limits the vertical axis to three times the range of the runs. With two
  seeds an interval can be much wider, and the means would look equal."""
  low = min(values_ST.min() for values_ST in runs)
  high = max(values_ST.max() for values_ST in runs)
  bottom, top = axes.get_ylim()
  if high > low:
    axes.set_ylim(max(bottom, 2 * low - high), min(top, 2 * high - low))


def png(picture: figure.Figure) -> bytes:
  buffer = io.BytesIO()
  picture.savefig(buffer, format='png', dpi=110)
  return buffer.getvalue()


def number(value: float | None, sign: str = '') -> str:
  return '' if value is None else f'{value:{sign}.4g}'


def interval_text(low: float | None, high: float | None) -> str:
  return '' if low is None else f'[{number(low)}, {number(high)}]'


def _facts(folders):
  """What was run on which data, code and device, by all runs."""
  found: dict[str, list[str]] = {}
  for folder in folders:
    record = run_record.read(folder)
    starts = report.read_lines(folder, 'starts.jsonl')
    rows = header.fact_rows(record.config if record else {}, starts, {}, {})
    for name, text in rows:
      if name != 'began':
        found.setdefault(name, []).append(text)
  rows = []
  for name, texts in found.items():
    different = list(dict.fromkeys(texts))
    more = f'; and {len(different) - 3} others' if len(different) > 3 else ''
    rows.append((name, '; '.join(different[:3]) + more))
  return [elements.facts(rows)] if rows else []


def _links(workdir, folder):
  """The name of a work directory, with links to it and to files that it has, for
  a page in `folder`."""
  path = os.path.relpath(workdir, folder)
  links = [_link(path, path)]
  for name in ('report.html', 'metrics.jsonl', 'log.txt'):
    if (workdir / name).exists():
      links.append(_link(f'{path}/{name}', name))
  return elements.join(links, ' ')


def _link(path, text):
  address = urllib.parse.quote(path, safe='/=,')
  return Markup(f'<a href="{address}">{elements.escape(text)}</a>')
