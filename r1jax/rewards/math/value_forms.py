r"""What a mathematical answer says: its text read into numbers, brackets and
one spelling of the rest. Nothing is evaluated; no step is worse than linear."""

import re
from fractions import Fraction
from typing import NamedTuple

from r1jax.rewards.math import cleaning, units

MAX_ANSWER = 1000  # characters of an answer that is read at all
MAX_DEPTH = 20  # nested brackets
MAX_EXPONENT = 1000
ROUNDED = 3  # decimals from which a gold counts as a rounded number

OPEN, CLOSE = '([{', ')]}'
FUNCTIONS = units.FUNCTIONS

THOUSANDS = re.compile(r'(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)')
SPACED = re.compile(r'[+-]?\d{1,3}(?: \d{3}){2,}')
LETTER = re.compile('[a-zA-Z]')
AND = re.compile(r',? ?\b(and|or)\b ?')
INEQUALITY = re.compile(r'[<>]|\\(?:[lg]eq?|[lg]t)(?![a-z])')
NAME = re.compile(
  r"((?:[a-zA-Z]|\\[a-z]+)'*(?:_\w|_\{\w+\}|\(-?\w+\))?|\([a-z](?:, ?[a-z])+\))"
  r' ?(?:=|\\in(?![a-z])) ?'
)
REVERSED = re.compile(r'((?:[^a-zA-Z=\\]|\\[a-z]+)+?) ?= ?([a-zA-Z])')
UNEQUAL = re.compile(r'([a-zA-Z]) ?\\ne ?([^,=<>]+)')
MATRIX = re.compile(
  r'(-?(?:\d+|[a-z]|\\frac\{\d+\}\{\d+\})?) ?[(\[]?'
  r'\\begin\{([pb]?(?:small)?matrix|array)\}(?:\{[lcr| ]+\})?'
  r'(.*)\\end\{\2\}[)\]]?',
  re.DOTALL,
)
BUILDER = re.compile(
  r'\\?\{ ?[a-zA-Z](?: ?\\in ?\\mathbb\{R\})? ?[|:] ?(.*?)\\?\}'
)
REALS = re.compile(r'\\mathbb ?\{?R\}?|(?i:all reals?(?: numbers)?)|全体实数')
SIGNS = re.compile(r'\\(?:pm|mp)(?![a-zA-Z])')

PLAIN = r'(?:\d+\.?\d*|\.\d+)'
DECIMAL = re.compile(
  rf'([+-]?{PLAIN})(?:(?:[eE]|\*10\^)\{{?([+-]?\d{{1,4}})\}}?)?'
)
POWER = re.compile(r'([+-]?)10\^\{?([+-]?\d{1,4})\}?')
SLASH = re.compile(rf'([+-]?)(?:(\d+) )?({PLAIN})/({PLAIN})')
RATIO = re.compile(
  rf'([+-]?)(\d*)\\frac\{{([+-]?{PLAIN})\}}\{{([+-]?{PLAIN})\}}'
)


class Value(NamedTuple):
  """What a text says: kind is 'number', 'text', or the brackets of a body."""

  kind: str
  body: Fraction | str | tuple
  unit: str = ''
  name: str = ''
  decimals: int = 0
  raw: str = ''  # a text as it stood, without its unit


def read(text):
  """The Value of a text, None if it is blank, too long or unbalanced."""
  if not text.strip() or len(text) > MAX_ANSWER:
    return None
  text, depth = cleaning.clean(text), 0
  for c in text:
    depth += (c in OPEN) - (c in CLOSE)
    if not 0 <= depth <= MAX_DEPTH:
      return None
  return _value(text) if text and depth == 0 else None


def _value(text):
  text = text.strip()
  if not text.startswith(('(', '[', '{', r'\{')):
    text = THOUSANDS.sub(lambda match: match[0].replace(',', ''), text)
  if SPACED.fullmatch(text):
    text = text.replace(' ', '')
  if match := BUILDER.fullmatch(text):
    text = match[1]
  if len(parts := _split(text, r'\cup')) > 1:
    return Value(r'\cup', _ordered(parts))
  if len(parts := _alternatives(_split(AND.sub(',', text), ','))) > 1:
    return _several(parts, set(AND.findall(text)))
  name = ''
  if match := NAME.match(text):
    name, text = match[1].replace(' ', ''), text[match.end() :]
  elif match := REVERSED.fullmatch(text):
    text, name = match.groups()
  elif match := UNEQUAL.fullmatch(text):
    parts = rf'(-\infty,{match[2]})', rf'({match[2]},\infty)'
    return Value(r'\cup', _ordered(parts), name=match[1])
  if REALS.fullmatch(text):
    return Value('()', (_value(r'-\infty'), _value(r'\infty')), name=name)
  if match := MATRIX.fullmatch(text):
    return _matrix(match[1], match[3])._replace(name=name)
  if (brackets := _brackets(text)) is None:
    return _quantity(text)._replace(name=name)
  inside = text[len(brackets) // 2 : -(len(brackets) // 2)]
  parts = _split(inside, ',')
  if brackets == '[]' and len(parts) > 1 and all(map(_is_row, parts)):
    rows = [_value(part)._replace(kind='()') for part in parts]
    if len({len(row.body) for row in rows}) == 1:
      return Value('matrix', tuple(rows), name=name)
  if brackets in ('()', '{}') and len(parts) == 1:
    inner = _value(inside)
    return inner._replace(name=name or inner.name)
  if brackets in ('{}', r'\{\}'):
    return Value('{}', _ordered(_alternatives(parts)), name=name)
  return Value(brackets, tuple(map(_value, parts)), name=name)


def _several(parts, words):
  """Several values: the set of them, or, as in x=1, y=2, a point. Between
  inequalities `and` is no `or`; neither is it between names and letters."""
  values = _ordered(parts)
  names = sorted({value.name for value in values})
  if 'and' in words and any(INEQUALITY.search(x.raw) for x in values):
    return Value('and', values)
  if 'or' in words and (
    len(names) > 1 or all(x.kind == 'text' and x.raw.isalpha() for x in values)
  ):
    return Value('or', values)
  if len(names) < len(values) or not all(map(LETTER.fullmatch, names)):
    return Value('{}', values)
  point = sorted(values, key=lambda value: value.name)
  body = tuple(value._replace(name='') for value in point)
  return Value('()', body, name=f'({",".join(names)})')


def _matrix(factor, inside):
  """A factor times a matrix, whose single column is a vector."""
  rows = [row.split('&') for row in inside.strip('\n ').split('\n')]
  if factor:
    rows = [[f'{factor}({cell})' for cell in row] for row in rows]
  rows = [tuple(map(_value, row)) for row in rows]
  if len(rows) > 1 and all(len(row) == 1 for row in rows):
    return Value('()', tuple(cell for (cell,) in rows))
  return Value('matrix', tuple(Value('()', row) for row in rows))


def _is_row(text):
  """Whether it is [...], as the rows of a matrix are in plain text."""
  text = text.strip()
  return text.startswith('[') and _brackets(text) == '[]'


def _split(text, separator):
  """Cuts at the separators that stand outside all brackets."""
  parts, start, depth = [], 0, 0
  for i, c in enumerate(text):
    depth += (c in OPEN) - (c in CLOSE)
    if depth == 0 and text.startswith(separator, i):
      parts.append(text[start:i])
      start = i + len(separator)
  return parts + [text[start:]]


def _alternatives(parts):
  r"""Writes a part that has one \pm, not within brackets of its own, as two."""
  found = []
  for part in parts:
    one = len(SIGNS.findall(part)) == 1 and _brackets(part.strip()) is None
    found += [SIGNS.sub(sign, part) for sign in '+-'] if one else [part]
  return found


def _ordered(parts):
  def key(value):
    body = value.body
    return value.kind, body if value.kind == 'number' else repr(body)

  return tuple(sorted(map(_value, parts), key=key))


def _brackets(text):
  """The two brackets that hold the whole text, or None."""
  if not text.startswith(('(', '[', '{', r'\{')):
    return None
  depth = 0
  for c in text[:-1]:
    depth += (c in OPEN) - (c in CLOSE)
    if depth == 0 and c in CLOSE:
      return None
  if text[0] == '\\':
    return r'\{\}' if text.endswith(r'\}') else None
  return text[0] + text[-1]


def _quantity(text):
  """A number or other text, with its unit."""
  core, unit = units.split(text)
  number, decimals = _number(cleaning.tight(core))
  if number is None:
    return Value('text', _flat(core), unit, raw=core)
  return Value('number', number, unit, decimals=decimals)


def _number(text):
  """(value, digits after the point), or (None, 0) if it is no number."""
  none = None, 0
  if match := POWER.fullmatch(text):
    text = f'{match[1]}1e{match[2]}'
  if match := DECIMAL.fullmatch(text):
    exponent = int(match[2] or 0)
    if abs(exponent) > MAX_EXPONENT:
      return none
    decimals = len(match[1].partition('.')[2])
    number = Fraction(match[1].removesuffix('.')) * Fraction(10) ** exponent
    return number, 0 if match[2] else decimals
  text = SLASH.sub(r'\1\2\\frac{\3}{\4}', text) if '/' in text else text
  if not (match := RATIO.fullmatch(text)):
    return none
  sign, whole, *pair = match.groups()
  if whole and not (pair[0] + pair[1]).isdigit():
    return none
  above, below = (Fraction(x.removesuffix('.')) for x in pair)
  if below == 0:
    return none
  number = int(whole or 0) + above / below
  return -number if sign == '-' else number, 0


def _flat(text):
  r"""One spelling of an expression: x^{2} as x^2, pi/2 as \frac{\pi}{2}."""
  text = re.sub(r'\\(?=[a-zA-Z])', '', cleaning.tight(text))
  text = text.translate(str.maketrans('{}', '()'))
  text = re.sub(r'([\^_])\((-?\d+|[a-zA-Z])\)(?!\d)', r'\1\2', text)
  text = re.sub(r'(?<=[\d)])\*(?=[a-zA-Z(])(?!frac)', '', text)
  text = re.sub(
    r'(?<![\w^)./])(\w+)/(\d+|[a-zA-Z]|pi)(?![\w^(.])', r'frac(\1)(\2)', text
  )
  return text.casefold() if len(text) > 1 and text.isalpha() else text
