"""Parts of pages: tables, notes, and texts of runs, which are escaped."""

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import markupsafe
from markupsafe import Markup

# Colours of Okabe and Ito, which colour-blind readers can distinguish.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
# Marks that reorder the text around them.
BIDI = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))


def _visible_characters():
  """{number: text} of the characters that are shown by their number."""
  shown = {n: f'\\u{n:04x}' for n in BIDI}
  for n in [*range(0x20), *range(0x7F, 0xA0)]:
    if chr(n) not in '\t\n':
      shown[n] = f'\\x{n:02x}'
  return shown


VISIBLE = _visible_characters()


def visible(text: object) -> str:
  """The text, in which control characters, marks that reorder the text around
  them, and lone surrogates are shown as \\x07, \\u202e, \\ud800."""
  shown = str(text).replace('\r\n', '\n').translate(VISIBLE)
  return shown.encode('utf-8', 'backslashreplace').decode()


def escape(text: object) -> Markup:
  """The text as HTML; Markup as it is."""
  if isinstance(text, Markup):
    return text
  return markupsafe.escape(visible(text))


def join(parts: Iterable[object], separator: str = '\n') -> Markup:
  return Markup(separator).join(escape(part) for part in parts)


def heading(text: object) -> Markup:
  return Markup(f'<h2>{escape(text)}</h2>')


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
  """A table, which scrolls if it is too wide; cells are text or Markup."""
  lines = []
  for tag, cells in [('th', head), *(('td', row) for row in rows)]:
    inner = ''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)
    lines.append(f'<tr>{inner}</tr>')
  lines = ['<div class="wide"><table>', *lines, '</table></div>']
  return Markup('\n'.join(lines))


def facts(rows: Iterable[tuple[object, object]]) -> Markup:
  """Names and values, below each other."""
  lines = [f'<dt>{escape(x)}</dt><dd>{escape(y)}</dd>' for x, y in rows]
  return Markup('<dl>' + '\n'.join(lines) + '</dl>')


def tiles(rows: Iterable[tuple[object, object, object]]) -> Markup:
  """The main figures: (name, figure, remark)."""
  lines = []
  for name, figure, remark in rows:
    lines.append(
      f'<div class="tile"><span>{escape(name)}</span><b>{escape(figure)}</b>'
      f'<small>{escape(remark)}</small></div>'
    )
  return Markup('<div class="tiles">' + '\n'.join(lines) + '</div>')


def details(summary: object, content: Markup) -> Markup:
  """Content that a click on its summary opens."""
  opened = f'<details><summary>{escape(summary)}</summary>'
  return Markup(f'{opened}\n{content}\n</details>')


def note(text: object) -> Markup:
  return Markup(f'<p class="grey">{escape(text)}</p>')


def image(png: bytes) -> Markup:
  """A PNG image as wide as the page."""
  encoded = base64.b64encode(png).decode()
  return Markup(f'<p><img alt="" src="data:image/png;base64,{encoded}"></p>')


def tokens(
  texts: Iterable[str], numbers: Iterable[float], largest: float
) -> Markup:
  """The texts of tokens, shaded by a number each, which is the tooltip: blue
  above 0, orange below; darkest from the magnitude `largest` on."""
  spans = []
  for text, number in zip(texts, numbers, strict=True):
    colour = COLOURS[0 if number > 0 else 1]
    shade = round(160 * min(1, abs(number) / largest)) if largest else 0
    style = f'background: {colour}{shade:02x}'
    spans.append(
      f'<span style="{style}" title="{number:+.3g}">{escape(text)}</span>'
    )
  return Markup(f'<pre>{"".join(spans)}</pre>')


def sample(title: object, prompt: object, response: object) -> Markup:
  return Markup(
    f'{note(title)}\n<pre class="grey">{escape(prompt)}</pre>\n'
    f'<pre>{escape(response)}</pre>'
  )


def number(value: Any, sign: str = '') -> str:
  """A number with four digits, other values as text."""
  return f'{value:{sign}.4g}' if isinstance(value, float) else str(value)
