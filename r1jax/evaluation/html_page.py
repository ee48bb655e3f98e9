"""Web pages without external files: tables, images and samples of text."""

import base64
import html
from collections.abc import Iterable, Sequence

# Colours of Okabe and Ito, which colour-blind readers can distinguish.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto;
       max-width: 72rem; padding: 0 1rem }
img { width: 100% } div { overflow-x: auto }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { border-bottom: 1px solid #ddd; padding: .2rem 1.2rem .2rem 0;
         text-align: left; font-variant-numeric: tabular-nums }
pre { background: #f5f5f5; padding: .7rem; white-space: pre-wrap;
      overflow-wrap: anywhere }
h3 { margin: 1.5rem 0 .3rem } .grey { color: #666 }
"""


class Html(str):
  """A string that is HTML and must not be escaped."""


def escape(text: str) -> Html:
  return text if isinstance(text, Html) else Html(html.escape(text))


def page(title: str, parts: Iterable[str], style: str = '') -> str:
  """A document of HTML parts, with CSS beside that of all pages."""
  title = escape(title)
  return (
    f'<!doctype html>\n<meta charset="utf-8">\n<title>{title}</title>\n'
    f'<style>{STYLE}{style}</style>\n<h1>{title}</h1>\n'
    + '\n'.join([*parts, ''])
  )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
  """A table; cells are text or Html."""
  lines = []
  for tag, cells in [('th', head), *(('td', row) for row in rows)]:
    inner = ''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)
    lines.append(f'<tr>{inner}</tr>')
  return Html('<div><table>\n' + '\n'.join(lines) + '\n</table></div>')


def note(text: str) -> Html:
  return Html(f'<p class="grey">{escape(text)}</p>')


def image(png: bytes) -> Html:
  """A PNG image as wide as the page."""
  encoded = base64.b64encode(png).decode()
  return Html(f'<p><img alt="" src="data:image/png;base64,{encoded}"></p>')


def tokens(
  texts: Iterable[str], numbers: Iterable[float], largest: float
) -> Html:
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
  return Html(f'<pre>{"".join(spans)}</pre>')


def sample(heading: str, prompt: str, response: str) -> Html:
  return Html(
    f'{note(heading)}\n<pre class="grey">{escape(prompt)}</pre>\n'
    f'<pre>{escape(response)}</pre>'
  )
