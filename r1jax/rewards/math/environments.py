r"""Reads the rows of a LaTeX environment: matrices, determinants, cases, and
aligned equations."""

import re
from typing import NamedTuple

FACTOR = r'(-?(?:\d+|[a-z]|\\frac\{\d+\}\{\d+\})?)'
MATRIX = re.compile(
  rf'(?s){FACTOR} ?\*? ?[(\[]? ?'
  r'\\begin\{([pbB]?(?:small)?matrix|array)\}(?:\{[lcr| ]+\})?'
  r'(.*)\\end\{\2\} ?[)\]]?'
)
DETERMINANT = re.compile(
  r'(?s)(?:\\begin\{vmatrix\}(.*?)\\end\{vmatrix\}|'
  r'\| ?\\begin\{(?:array|matrix)\}(?:\{[lcr| ]+\})?(.*?)'
  r'\\end\{(?:array|matrix)\} ?\||'
  r'\\?det ?\(? ?\\begin\{[pb]matrix\}(.*?)\\end\{[pb]matrix\} ?\)?)'
)
CASES = re.compile(
  r'(?s)(?:\\begin\{[dr]?cases\}(.*)\\end\{[dr]?cases\}|'
  r'\\\{ ?\\begin\{(array|aligned|matrix)\}(.*)\\end\{\2\})'
)
ALIGNED = re.compile(
  r'(?s)\\begin\{(aligned|align\*?|align(?:ed)?at\*?|gathered|gather\*?|split|eqnarray\*?|'
  r'equation\*?)\}(.*)\\end\{\1\}'
)
CONDITION = re.compile(
  r'(?i)^ ?(?:, ?)?(?:(?:if|for|when|where|as|当) ?)?|[,;.] ?$'
)
OTHERWISE = re.compile(r'(?i)otherwise|else|其他|其它')
# x^2, x > 1
RELATION = re.compile(r'[<>=]|\\(?:[lg]eq?|ne|in)(?![a-z])')
COMMA = re.compile(
  r'(?<=[^<>=,]), ?(?=[a-z0-9.\\-]+ ?(?:[<>]|\\(?:[lg]eq?|in)(?![a-z])))'
)
MAX_DETERMINANT = 3


class Rows(NamedTuple):
  factor: str
  cells: list[list[str]]


def matrix(text: str) -> Rows | None:
  match = MATRIX.fullmatch(text)
  return Rows(match[1], _rows(match[3])) if match else None


def cases(text: str) -> list[list[str]] | None:
  """The rows of a system, or of a function by cases: [value, condition]."""
  match = CASES.fullmatch(text)
  if not match:
    return None
  rows = []
  for row in _rows(match[1] or match[3] or ''):
    if len(row) == 1 and (parts := _split_condition(row[0])):
      row = parts
    rows.append([CONDITION.sub('', cell).strip() for cell in row])
  return rows


def unalign(text: str) -> str:
  r"""The equations of an aligned environment: a chain if rows begin with =,
  otherwise a list."""
  match = ALIGNED.fullmatch(text)
  inside = match[2] if match else text
  if '\n' not in inside or not match and '\\begin' in text:
    return inside.replace('&', '') if match else text
  joined = ''
  for line in inside.strip('\n ').split('\n'):
    line = line.replace('&', '').strip().rstrip(',;')
    if line and joined:
      joined += '' if line.startswith(('=', '\\approx')) else ', '
    joined += line
  return joined


def expand_determinants(text: str) -> str:
  """The text with determinants of up to three rows as sums of products."""
  for _ in range(4):
    match = DETERMINANT.search(text)
    if not match:
      break
    cells = _rows(next(x for x in match.groups() if x is not None))
    size = len(cells)
    if size > MAX_DETERMINANT or any(len(row) != size for row in cells):
      break
    expanded = f'({_determinant(cells)})'
    text = text[: match.start()] + expanded + text[match.end() :]
  return text


def is_otherwise(text: str) -> bool:
  return OTHERWISE.fullmatch(text.strip()) is not None


def _rows(inside):
  rows = []
  for line in inside.replace('\\hline', '').strip('\n ').split('\n'):
    cells = [cell.strip() for cell in line.split('&')]
    if any(cell.startswith('=') for cell in cells):
      cells = [''.join(cells)]  # an equation that is aligned at its sign
    rows.append([cell.rstrip(',;') for cell in cells])
  return rows


def _split_condition(text):
  match = re.search(r',? ?\b(?:if|for|when)\b ?', text)
  if not match and (match := COMMA.search(text)):
    if RELATION.search(text[: match.start()]):  # x > 0, y > 0
      return None
  return [text[: match.start()], text[match.end() :]] if match else None


def _determinant(cells):
  if len(cells) == 1:
    return f'({cells[0][0]})'
  terms = ''
  for n, cell in enumerate(cells[0]):
    minor = [row[:n] + row[n + 1 :] for row in cells[1:]]
    terms += f'{"-" if n % 2 else "+"}({cell})*({_determinant(minor)})'
  return terms[1:]
