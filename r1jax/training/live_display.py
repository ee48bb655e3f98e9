"""Displays that are updated in place: a line of a terminal, the output of a
notebook's cell."""

import contextlib
import html
import importlib
import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

ERASE_TO_END = '\x1b[K'
SEPARATOR = '  '  # between parts of a line
# Title by metric; a notebook draws the first two that the run has.
CURVES = {
  'eval/pass1': 'held-out pass@1',
  'eval/accuracy': 'held-out accuracy',
  'eval/loss': 'held-out loss',
  'reward': 'reward',
  'loss': 'loss',
}
POINTS = 300  # of a curve, at most
WIDTH, HEIGHT = 340, 80  # of a curve, without the texts around it
COLOUR = '#0072b2'


class TerminalLine:
  """A line of a terminal that is rewritten in place. Until close(), other text
  on stdout and stderr begins on a new line: both are replaced by OtherText."""

  def __init__(self, stream: TextIO):
    self.stream = stream
    self.has_cursor = False
    self.other_is_open = False  # other text without a newline has the cursor
    self.streams = contextlib.ExitStack()
    stdout: Any = OtherText(self, sys.stdout)
    self.streams.enter_context(contextlib.redirect_stdout(stdout))
    if sys.stderr and sys.stderr.isatty():
      stderr: Any = OtherText(self, sys.stderr)
      self.streams.enter_context(contextlib.redirect_stderr(stderr))

  def draw(self, parts: Sequence[str], share: float) -> None:
    """Replaces the line by those of the parts that fit, so that it cannot
    wrap. The first ones matter most."""
    if self.other_is_open:
      self.stream.write('\n')
    encoding = self.stream.encoding or 'utf-8'  # ASCII has no Δ
    texts = []
    for part in parts:
      known = part.encode(encoding, 'backslashreplace')
      texts.append(known.decode(encoding))
    line = fit(texts, columns(self.stream) - 1)
    self.stream.write(f'\r{line}{ERASE_TO_END}')
    self.stream.flush()
    self.has_cursor, self.other_is_open = True, False

  def end_line(self) -> None:
    """Moves the cursor to a new line if it is on this one."""
    if self.has_cursor:
      self.has_cursor = False
      self.stream.write('\n')
      self.stream.flush()

  def close(self) -> None:
    self.end_line()
    self.streams.close()


class OtherText:
  """stdout or stderr during the life of a TerminalLine."""

  def __init__(self, line: TerminalLine, stream: TextIO):
    self.line, self.stream = line, stream

  def write(self, text: str) -> int:
    if text:
      self.line.end_line()
      self.line.other_is_open = not text.endswith('\n')
    return self.stream.write(text)

  def __getattr__(self, name: str) -> Any:
    return getattr(self.stream, name)


class NotebookCell:
  """A bar, a line and curves in the output of a notebook's cell. The curves are
  those of the metrics file, which grows."""

  def __init__(self, metrics_file: Path | None):
    self.metrics_file, self.offset = metrics_file, 0
    self.curves: dict[str, list[tuple[int, float]]] = {x: [] for x in CURVES}
    self.ipython = importlib.import_module('IPython.display')
    empty = self.ipython.HTML('')
    self.handle = self.ipython.display(empty, display_id=True)

  def draw(self, parts: Sequence[str], share: float) -> None:
    self._read_metrics()
    line = SEPARATOR.join(parts)
    html_parts = [
      f'<progress value="{share:.4f}" style="width: 100%"></progress>',
      f'<pre style="white-space: pre-wrap">{html.escape(line)}</pre>',
    ]
    drawn = [name for name, points in self.curves.items() if points][:2]
    html_parts.append('<div style="display: flex; flex-wrap: wrap">')
    html_parts += [curve(CURVES[name], self.curves[name]) for name in drawn]
    html_parts.append('</div>')
    self.handle.update(self.ipython.HTML('\n'.join(html_parts)))

  def close(self) -> None:
    pass

  def _read_metrics(self):
    """Adds the lines that were written since the last call."""
    if self.metrics_file is None or not self.metrics_file.exists():
      return
    with open(self.metrics_file, 'rb') as file:
      file.seek(self.offset)
      new = file.read()
    self.offset += len(new)
    for line in map(json.loads, new.splitlines()):
      for name, points in self.curves.items():
        if line.get(name) is not None:
          points.append((line['step'], line[name]))


def find(metrics_file: Path | None) -> TerminalLine | NotebookCell | None:
  """A display in this notebook or terminal; None if the output is neither."""
  if in_notebook():
    return NotebookCell(metrics_file)
  is_dumb = os.environ.get('TERM') == 'dumb'
  if sys.stdout and sys.stdout.isatty() and not is_dumb:  # None: it is closed
    return TerminalLine(sys.stdout)
  return None


def in_notebook() -> bool:
  """Whether this process is a Jupyter kernel."""
  ipython = sys.modules.get('IPython')
  shell = ipython.get_ipython() if ipython else None
  kinds = [kind.__name__ for kind in type(shell).__mro__]
  return 'ZMQInteractiveShell' in kinds  # or, on Colab, a subclass of it


def columns(stream: TextIO) -> int:
  """The width of a terminal now; 80 if it does not tell."""
  with contextlib.suppress(OSError, ValueError):
    width = os.get_terminal_size(stream.fileno()).columns
    if width:
      return width
  return shutil.get_terminal_size().columns


def fit(parts: Sequence[str], columns: int) -> str:
  """A line of those parts that fit into `columns` columns; the first one is cut
  if it does not."""
  line = cut(parts[0], columns)
  for part in parts[1:]:
    longer = f'{line}{SEPARATOR}{part}'
    if width(longer) <= columns:
      line = longer
  return line


def cut(text: str, columns: int) -> str:
  """The beginning of a text that takes at most `columns` columns."""
  while width(text) > columns:
    text = text[:-1]
  return text


def width(text: str) -> int:
  """The columns of a text in a terminal."""
  count = 0
  for character in text:
    if unicodedata.east_asian_width(character) in 'WF':
      count += 2
    elif unicodedata.category(character) not in ('Mn', 'Me', 'Cf'):
      count += 1
  return count


def curve(title: str, points: list[tuple[int, float]]) -> str:
  """A metric by step as SVG, with its extremes and its last value."""
  drawn = points[: -1 : len(points) // POINTS + 1] + points[-1:]
  steps, values = zip(*drawn)
  low, high = min(values), max(values)
  width = WIDTH / ((steps[-1] - steps[0]) or 1)
  height = HEIGHT / ((high - low) or 1)
  places = []
  for step, value in drawn:
    x, y = (step - steps[0]) * width, (high - value) * height
    places.append(f'{x:.1f},{y:.1f}')
  x, y = places[-1].split(',')
  texts = [
    _text(0, -12, 'start', f'{title} {values[-1]:.4g}'),
    _text(0, HEIGHT + 18, 'start', f'step {steps[0]}'),
    _text(WIDTH, HEIGHT + 18, 'end', f'step {steps[-1]}'),
    _text(WIDTH + 8, 8, 'start', f'{high:.3g}'),
    _text(WIDTH + 8, HEIGHT, 'start', f'{low:.3g}'),
  ]
  return (
    f'<svg viewBox="-5 -28 {WIDTH + 75} {HEIGHT + 50}" width="{WIDTH + 75}" '
    f'height="{HEIGHT + 50}">'
    f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#8888"/>'
    f'<polyline points="{" ".join(places)}" fill="none" stroke="{COLOUR}"/>'
    f'<circle cx="{x}" cy="{y}" r="2.5" fill="{COLOUR}"/>'
    f'{"".join(texts)}</svg>'
  )


def _text(x, y, anchor, text):
  return (
    f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="12" '
    f'fill="currentColor">{html.escape(text)}</text>'
  )
