"""Draws the curves of a run and writes a page with its samples."""

import dataclasses
import fnmatch
import json
import math
from pathlib import Path

import ml_collections
import numpy as np
from matplotlib import figure, layout_engine, ticker

from r1jax import errors, files
from r1jax.evaluation import html_page
from r1jax.training import run_record

Lines = list[dict]  # of metrics.jsonl

# Title: (label of the vertical axis, patterns of the metrics).
PANELS = {
  'Reward': ('mean of the responses', ('reward', 'reward/*')),
  'Held-out pass@1': ('share correct, 95 % interval', ('eval/pass1',)),
  'Response length': ('tokens', ('length', 'eval/length')),
  'Truncated responses': ('share', ('truncated',)),
  'Groups without signal': ('share', ('dead_groups',)),
  'Loss': ('nats a token', ('loss', 'eval/loss')),
  'KL to the reference': ('nats a token', ('kl',)),
  'Entropy': ('nats a token', ('entropy',)),
  'Clipped tokens': ('share', ('clip_fraction',)),
  'Sampler against trainer': ('mean |Δ log p|', ('sampling_logp_difference',)),
  'Load of the busiest expert': ('multiple of the mean', ('router/max_load',)),
  'Experts without tokens': ('share', ('router/dead_experts',)),
  'Experts, sampler against trainer': (
    'share of choices that differ',
    ('router/flips',),
  ),
  'Gradient norm': ('before clipping', ('grad_norm',)),
  'Speed': ('tokens a second', ('tokens_per_s',)),
}
COLUMNS = 3
SAMPLES = 4  # of a step


@dataclasses.dataclass(frozen=True)
class Config:
  """No keys: a report is a function of the work directory."""


def run(settings: ml_collections.ConfigDict, workdir: str | Path) -> None:
  """Writes report.png and report.html of a run, and prints the page's path."""
  folder = Path(workdir)
  path = folder / 'metrics.jsonl'
  lines = files.read_jsonl(path) if path.exists() else []
  if not lines:
    raise errors.UserError(
      f'there are no steps in {path}: run a stage with --workdir {workdir}'
    )
  draw(lines, folder / 'report.png')
  files.write_text(folder / 'report.html', page(folder, lines))
  print(folder / 'report.html')


def panels(lines: Lines) -> dict[str, list[str]]:
  """{title: its metrics}, for each entry of PANELS that has numbers."""
  found = {}
  for title, (_, patterns) in PANELS.items():
    names = _names(lines, patterns)
    if names:
      found[title] = names
  return found


def draw(lines: Lines, path: str | Path) -> None:
  """Draws the panels."""
  drawn = panels(lines)
  rows = math.ceil(len(drawn) / COLUMNS)
  layout = layout_engine.ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
  picture = figure.Figure(figsize=(12.5, 3.1 * rows), layout=layout)
  grid = picture.subplots(rows, COLUMNS, squeeze=False).flatten()
  for axes, (title, names) in zip(grid, drawn.items()):
    _draw_panel(axes, title, names, lines)
  for axes in grid[len(drawn) :]:
    axes.set_axis_off()
  picture.savefig(path, dpi=110)


def page(folder: Path, lines: Lines) -> str:
  """The page of a run: curves, first and last numbers, config, samples."""
  rows = []
  for name in dict.fromkeys(name for line in lines for name in line):
    values = [line[name] for line in lines if name in line]
    rows.append((name, _format(values[0]), _format(values[-1])))
  parts = [
    html_page.image((folder / 'report.png').read_bytes()),
    '<h2>Numbers</h2>',
    html_page.table(['', 'first', 'last'], rows),
  ]
  record, samples = run_record.read(folder), folder / 'samples.jsonl'
  if record:
    rows = []
    for key, (default, value) in record.changed.items():
      rows.append((key, json.dumps(default), json.dumps(value)))
    table = html_page.table(['key', 'default', 'here'], rows)
    parts += ['<h2>Config</h2>', table]
    if record.changes:
      names = ['step', 'key', 'old', 'new']
      entries = []
      for change in record.changes:
        entries.append([json.dumps(change[name]) for name in names])
      table = html_page.table(['from step', 'key', 'before', 'after'], entries)
      parts += ['<h2>Changes during the run</h2>', table]
  if samples.exists():
    parts += ['<h2>Samples</h2>', *_samples(files.read_jsonl(samples))]
  return html_page.page(f'r1jax: {folder.resolve().name}', parts)


def _draw_panel(axes, title, names, lines):
  for name, colour in zip(names, html_page.COLOURS):
    steps, values = _curve(lines, name)
    label = name.replace('eval/', 'held-out ').replace('reward/', '')
    if name == 'reward' and len(names) > 1:
      label = 'sum'
    if len(steps) <= 30:
      axes.plot(steps, values, color=colour, marker='.', label=label)
    else:
      axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
      axes.plot(steps, smooth(values), color=colour, label=label)
  if title == 'Held-out pass@1':
    steps, low = _curve(lines, 'eval/low')
    _, high = _curve(lines, 'eval/high')
    colour = html_page.COLOURS[0]
    axes.fill_between(steps, low, high, color=colour, alpha=0.2, lw=0)
    axes.set_ylim(0, 1.02)
  axes.set_title(title, loc='left', fontsize=11, fontweight='bold')
  axes.set_ylabel(PANELS[title][0], fontsize=9)
  axes.set_xlabel('step', fontsize=9)
  axes.tick_params(labelsize=8)
  axes.grid(color='#e5e5e5')
  axes.spines[['top', 'right']].set_visible(False)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
  axes.yaxis.set_major_formatter(lambda value, _: f'{value:g}')
  if len(names) > 1:
    axes.legend(fontsize=8, frameon=False)


def _names(lines, patterns):
  """The metrics with finite numbers that match, in the order of the lines."""
  found = []
  for name in dict.fromkeys(name for line in lines for name in line):
    matches = any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    if matches and np.isfinite(_curve(lines, name)[1]).any():
      found.append(name)
  return found


def _curve(lines, name):
  """(steps, values) of a metric."""
  present = [line for line in lines if name in line]
  steps = np.array([line['step'] for line in present])
  return steps, np.array([line[name] for line in present], dtype=float)


def smooth(values: np.ndarray) -> np.ndarray:
  """The centred running mean of 2 * (n // 20) + 1 points, fewer at the ends."""
  width = max(1, len(values) // 20)
  finite = np.isfinite(values)
  window = np.ones(2 * width + 1)
  total = np.convolve(np.where(finite, values, 0), window)[width:-width]
  count = np.convolve(finite, window)[width:-width]
  return np.divide(total, count, np.full(len(values), np.nan), where=count > 0)


def _samples(lines):
  """Samples of the first, the middle and the last step that has any."""
  steps = sorted({line['step'] for line in lines})
  shown = [steps[0], steps[len(steps) // 2], steps[-1]] if steps else []
  for step in dict.fromkeys(shown):
    yield f'<h3>Step {step}</h3>'
    for line in [x for x in lines if x['step'] == step][:SAMPLES]:
      parts = [f'{name} {_format(x)}' for name, x in line['rewards'].items()]
      end = 'finished' if line['finished'] else 'truncated'
      heading = (
        f'{line["id"]}: reward {_format(line["reward"])} ({", ".join(parts)}), '
        f'{line["length"]} tokens, {end}'
      )
      yield html_page.sample(heading, line['prompt'], line['response'])


def _format(value):
  return f'{value:.4g}' if isinstance(value, float) else str(value)
