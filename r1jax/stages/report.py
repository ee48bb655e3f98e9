"""Draws the curves of a run and writes one page with its samples."""

import base64
import dataclasses
import fnmatch
import html
import json
import math
import pathlib

import numpy as np
from matplotlib import figure, ticker

from r1jax import errors, files

# Okabe and Ito's colours, told apart by every kind of eye.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
# Title: (what the vertical axis counts, the metrics in it).
PANELS = {
  'Reward': ('mean of the responses', ('reward', 'reward/*')),
  'Held-out pass@1': ('share right, 95 % interval', ('eval/pass1',)),
  'Response length': ('tokens', ('length', 'eval/length')),
  'Truncated responses': ('share', ('truncated',)),
  'Groups without signal': ('share', ('dead_groups',)),
  'Loss': ('nats a token', ('loss', 'eval/loss')),
  'KL to the reference': ('nats a token', ('kl',)),
  'Entropy': ('nats a token', ('entropy',)),
  'Clipped tokens': ('share', ('clip',)),
  'Sampler against trainer': ('mean |Δ log p|', ('delta_logp',)),
  'Gradient norm': ('before clipping', ('grad_norm',)),
  'Speed': ('tokens a second', ('tokens_per_s',)),
}
COLUMNS = 3
SAMPLES = 4
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto;
       max-width: 68rem; padding: 0 1rem }
img { width: 100% }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { border-bottom: 1px solid #ddd; padding: .2rem 1.2rem .2rem 0;
         text-align: left }
pre { background: #f5f5f5; padding: .7rem; white-space: pre-wrap;
      overflow-wrap: anywhere }
h3 { margin: 1.5rem 0 .3rem }
.of { color: #666 }
"""


@dataclasses.dataclass(frozen=True)
class Config:
  """Nothing to set: a report is a function of the work directory."""


def run(config, workdir):
  del config
  print(write(workdir))


def write(workdir):
  """Writes report.png and report.html of a run; returns the page's path."""
  folder = pathlib.Path(workdir)
  path = folder / 'metrics.jsonl'
  lines = files.read_jsonl(path) if path.exists() else []
  if not lines:
    raise errors.UserError(
      f'there are no steps in {path}: run a stage with --workdir {workdir}'
    )
  draw(lines, folder / 'report.png')
  page = folder / 'report.html'
  page.write_text(_page(folder, lines), encoding='utf-8')
  return page


def draw(lines, path):
  """A panel for each part of PANELS of which there are numbers."""
  panels = {
    title: _names(lines, wanted) for title, (_, wanted) in PANELS.items()
  }
  panels = {title: names for title, names in panels.items() if names}
  rows = math.ceil(len(panels) / COLUMNS)
  picture = figure.Figure(figsize=(12.5, 3.1 * rows), layout='constrained')
  picture.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
  grid = picture.subplots(rows, COLUMNS, squeeze=False).flatten()
  for axes, (title, names) in zip(grid, panels.items()):
    _panel(axes, title, names, lines)
  for axes in grid[len(panels) :]:
    axes.set_axis_off()
  picture.savefig(path, dpi=110)


def coloured(texts, numbers, most):
  """HTML of texts side by side, each on a ground of its number: blue above 0,
  orange below, full from +-most on."""
  spans = []
  for text, number in zip(texts, numbers, strict=True):
    share = min(1, abs(number) / most) if most else 0
    ground = COLOURS[0 if number > 0 else 1] + f'{round(160 * share):02x}'
    spans.append(
      f'<span style="background: {ground}" title="{number:+.3g}">'
      f'{html.escape(text)}</span>'
    )
  return f'<pre>{"".join(spans)}</pre>'


def _panel(axes, title, names, lines):
  for name, colour in zip(names, COLOURS):
    steps, values = _curve(lines, name)
    smooth = _smooth(values)
    label = name.replace('eval/', 'held-out ').replace('reward/', '')
    label = 'sum' if name == 'reward' and len(names) > 1 else label
    if len(steps) <= 30:
      axes.plot(steps, values, color=colour, marker='.', label=label)
    else:
      axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
      axes.plot(steps, smooth, color=colour, label=label)
  if title == 'Held-out pass@1':
    steps, low = _curve(lines, 'eval/low')
    _, high = _curve(lines, 'eval/high')
    axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.2, lw=0)
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


def _names(lines, wanted):
  """The metrics that match and have numbers, in the order of their writing."""
  names = dict.fromkeys(name for line in lines for name in line)
  return [
    name
    for name in names
    if any(fnmatch.fnmatch(name, pattern) for pattern in wanted)
    and np.isfinite(_curve(lines, name)[1]).any()
  ]


def _curve(lines, name):
  pairs = [(line['step'], line[name]) for line in lines if name in line]
  steps, values = zip(*pairs) if pairs else ((), ())
  return np.array(steps), np.array(values, dtype=float)


def _smooth(values):
  """A centred running mean over a twentieth of the run, shorter at its ends."""
  width = max(1, len(values) // 20)
  real = np.isfinite(values)
  window = np.ones(2 * width + 1)
  total = np.convolve(np.where(real, values, 0), window)[width:-width]
  count = np.convolve(real, window)[width:-width]
  return np.divide(total, count, np.full(len(values), np.nan), where=count > 0)


def _page(folder, lines):
  parts = [
    f'<p><img alt="curves" src="data:image/png;base64,{_picture(folder)}"></p>',
    '<h2>Numbers</h2>',
    _table(['', 'first', 'last'], _first_and_last(lines)),
  ]
  settings = folder / 'config.json'
  if settings.exists():
    changed = json.loads(settings.read_text())['changed']
    rows = [(key, *map(json.dumps, pair)) for key, pair in changed.items()]
    parts += ['<h2>Config</h2>', _table(['key', 'default', 'here'], rows)]
  samples = folder / 'samples.jsonl'
  if samples.exists():
    parts += ['<h2>Samples</h2>', *_samples(files.read_jsonl(samples))]
  title = html.escape(f'r1jax: {folder.resolve().name}')
  return (
    f'<!doctype html>\n<meta charset="utf-8">\n<title>{title}</title>\n'
    f'<style>{STYLE}</style>\n<h1>{title}</h1>\n' + '\n'.join(parts) + '\n'
  )


def _picture(folder):
  return base64.b64encode((folder / 'report.png').read_bytes()).decode()


def _first_and_last(lines):
  names = dict.fromkeys(name for line in lines for name in line)
  for name in names:
    values = [line[name] for line in lines if name in line]
    yield name, _show(values[0]), _show(values[-1])


def _samples(lines):
  """Headed blocks of the first, the middle and the last step with samples."""
  steps = sorted({line['step'] for line in lines})
  ends = [steps[0], steps[len(steps) // 2], steps[-1]] if steps else []
  for step in dict.fromkeys(ends):
    yield f'<h3>Step {step}</h3>'
    for line in [line for line in lines if line['step'] == step][:SAMPLES]:
      parts = ', '.join(f'{k} {_show(v)}' for k, v in line['rewards'].items())
      end = 'finished' if line['finished'] else 'truncated'
      head = (
        f'{line["id"]}: reward {_show(line["reward"])} ({parts}), '
        f'{line["length"]} tokens, {end}'
      )
      yield f'<p class="of">{html.escape(head)}</p>'
      yield f'<pre class="of">{html.escape(line["prompt"])}</pre>'
      yield f'<pre>{html.escape(line["response"])}</pre>'


def _table(head, rows):
  def cells(kind, row):
    return ''.join(f'<{kind}>{html.escape(str(cell))}</{kind}>' for cell in row)

  body = ''.join(f'<tr>{cells("td", row)}</tr>\n' for row in rows)
  return f'<table>\n<tr>{cells("th", head)}</tr>\n{body}</table>'


def _show(value):
  return f'{value:.4g}' if isinstance(value, float) else str(value)
