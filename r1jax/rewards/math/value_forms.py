"""Reads the text of an answer into a Value: a number, a set, a tuple, an
interval, a matrix, or other text. Nothing is evaluated."""

import re
from fractions import Fraction
from typing import NamedTuple

from r1jax.rewards.math import cleaning, units

MAX_ANSWER = 1000  # characters of an answer
MAX_DEPTH = 20  # nested brackets
MAX_EXPONENT = 1000
MIN_ROUNDED_DECIMALS = 3  # of a gold that may be a rounded number

OPEN, CLOSE = '([{', ')]}'

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
  r'(?s)(-?(?:\d+|[a-z]|\\frac\{\d+\}\{\d+\})?) ?[(\[]?'
  r'\\begin\{([pb]?(?:small)?matrix|array)\}(?:\{[lcr| ]+\})?'
  r'(.*)\\end\{\2\}[)\]]?'
)
BUILDER = re.compile(
  r'\\?\{ ?[a-zA-Z](?: ?\\in ?\\mathbb\{R\})? ?[|:] ?(.*?)\\?\}'
)
REALS = re.compile(r'\\mathbb ?\{?R\}?|(?i:all reals?(?: numbers)?)|全体实数')
SIGNS = re.compile(r'\\(?:pm|mp)(?![a-zA-Z])')

PLAIN = r'(?:\d+\.?\d*|\.\d+)'
SIGNED = rf'([+-]?{PLAIN})'
DECIMAL = re.compile(rf'{SIGNED}(?:(?:[eE]|\*10\^)\{{?([+-]?\d{{1,4}})\}}?)?')
POWER = re.compile(r'([+-]?)10\^\{?([+-]?\d{1,4})\}?')
SLASH = re.compile(rf'([+-]?)(?:(\d+) )?({PLAIN})/({PLAIN})')
RATIO = re.compile(rf'([+-]?)(\d*)\\frac\{{{SIGNED}\}}\{{{SIGNED}\}}')


class Value(NamedTuple):
  r"""An answer. A 'number' has `number`, a 'text' has `text`; all other kinds
  have `parts`: 'matrix', the brackets of a tuple or an interval, as '(]', '{}'
  for a set, r'\cup' for a union, 'and' and 'or' for alternatives."""

  kind: str
  number: Fraction = Fraction(0)
  text: str = ''  # in normal form, for comparison
  parts: tuple['Value', ...] = ()
  unit: str = ''
  name: str = ''  # before the value, as in x = 3
  decimals: int = 0  # after the point of a number
  raw: str = ''  # the LaTeX of a text, without its unit


def read(text: str) -> Value | None:
  """The Value of a text; None if it is blank, too long or unbalanced."""
  if not text.strip() or len(text) > MAX_ANSWER:
    return None
  text, depth = cleaning.clean(text), 0
  for char in text:
    depth += (char in OPEN) - (char in CLOSE)
    if not 0 <= depth <= MAX_DEPTH:
      return None
  return _read_value(text) if text and depth == 0 else None


def _read_value(text):
  text = text.strip()
  if not text.startswith(('(', '[', '{', r'\{')):
    text = THOUSANDS.sub(lambda match: match[0].replace(',', ''), text)
  if SPACED.fullmatch(text):
    text = text.replace(' ', '')
  if match := BUILDER.fullmatch(text):
    text = match[1]
  if len(parts := _split(text, r'\cup')) > 1:
    return Value(kind=r'\cup', parts=_read_sorted(parts))
  parts = _expand_signs(_split(AND.sub(',', text), ','))
  if len(parts) > 1:
    return _several(_read_sorted(parts), AND.findall(text))
  if match := UNEQUAL.fullmatch(text):
    parts = [rf'(-\infty,{match[2]})', rf'({match[2]},\infty)']
    return Value(kind=r'\cup', parts=_read_sorted(parts), name=match[1])
  if match := NAME.match(text):
    value = _read_unnamed(text[match.end() :])
    return value._replace(name=match[1].replace(' ', ''))
  if match := REVERSED.fullmatch(text):
    return _read_unnamed(match[1])._replace(name=match[2])
  return _read_unnamed(text)


def _read_unnamed(text: str) -> Value:
  if REALS.fullmatch(text):
    return _read_value(r'(-\infty,\infty)')
  if match := MATRIX.fullmatch(text):
    return _read_matrix(match[1], match[3])
  brackets = _brackets(text)
  if brackets is None:
    return _read_quantity(text)
  width = len(brackets) // 2
  inside = text[width:-width]
  parts = _split(inside, ',')
  nested = [_brackets(part.strip()) for part in parts]
  if brackets == '[]' and len(parts) > 1 and set(nested) == {'[]'}:
    rows = [_read_value(part)._replace(kind='()') for part in parts]
    if len({len(row.parts) for row in rows}) == 1:
      return Value(kind='matrix', parts=tuple(rows))
  if brackets in ('()', '{}') and len(parts) == 1:
    return _read_value(inside)
  if brackets in ('{}', r'\{\}'):
    return Value(kind='{}', parts=_read_sorted(_expand_signs(parts)))
  return Value(kind=brackets, parts=tuple(map(_read_value, parts)))


def _several(values, words):
  """Values between commas or the words 'and' and 'or': a set, or the point of
  x=1, y=2. Between inequalities, names or words, 'and' is not 'or'."""
  names = sorted({value.name for value in values})
  if 'and' in words and any(INEQUALITY.search(x.raw) for x in values):
    return Value(kind='and', parts=values)
  are_words = all(x.kind == 'text' and x.raw.isalpha() for x in values)
  if 'or' in words and (len(names) > 1 or are_words):
    return Value(kind='or', parts=values)
  if len(names) < len(values) or not all(map(LETTER.fullmatch, names)):
    return Value(kind='{}', parts=values)
  point = sorted(values, key=lambda value: value.name)
  parts = tuple(value._replace(name='') for value in point)
  return Value(kind='()', parts=parts, name=f'({",".join(names)})')


def _read_matrix(factor, inside):
  """A factor times a matrix. A matrix with one column is a vector."""
  rows = []
  for line in inside.strip('\n ').split('\n'):
    cells = line.split('&')
    if factor:
      cells = [f'{factor}({cell})' for cell in cells]
    rows.append(tuple(map(_read_value, cells)))
  if len(rows) > 1 and all(len(row) == 1 for row in rows):
    return Value(kind='()', parts=tuple(row[0] for row in rows))
  parts = tuple(Value(kind='()', parts=row) for row in rows)
  return Value(kind='matrix', parts=parts)


def _split(text: str, separator: str) -> list[str]:
  """Splits at the separators outside all brackets."""
  parts, start, depth = [], 0, 0
  for i, char in enumerate(text):
    depth += (char in OPEN) - (char in CLOSE)
    if depth == 0 and text.startswith(separator, i):
      parts.append(text[start:i])
      start = i + len(separator)
  return parts + [text[start:]]


def _expand_signs(parts):
  r"""Replaces each part with a single \pm, not in brackets, by two parts."""
  expanded = []
  for part in parts:
    if len(SIGNS.findall(part)) == 1 and _brackets(part.strip()) is None:
      expanded += [SIGNS.sub(sign, part) for sign in '+-']
    else:
      expanded.append(part)
  return expanded


def _read_sorted(parts):
  values = [_read_value(part) for part in parts]
  values.sort(key=lambda x: (x.kind, x.number, repr(x.text), repr(x.parts)))
  return tuple(values)


def _brackets(text: str) -> str | None:
  """The pair of brackets that encloses the whole text, or None."""
  if not text.startswith(('(', '[', '{', r'\{')):
    return None
  depth = 0
  for char in text[:-1]:
    depth += (char in OPEN) - (char in CLOSE)
    if depth == 0 and char in CLOSE:
      return None
  if text[0] == '\\':
    return r'\{\}' if text.endswith(r'\}') else None
  return text[0] + text[-1]


def _read_quantity(text: str) -> Value:
  """A number, or other text, with its unit."""
  raw, unit = units.split(text)
  number, decimals = _read_number(cleaning.tight(raw))
  if number is None:
    return Value(kind='text', text=_normal_text(raw), unit=unit, raw=raw)
  return Value(kind='number', number=number, unit=unit, decimals=decimals)


def _read_number(text: str) -> tuple[Fraction | None, int]:
  """(number, decimals), or (None, 0) if the text is not a number."""
  if match := POWER.fullmatch(text):
    text = f'{match[1]}1e{match[2]}'
  if match := DECIMAL.fullmatch(text):
    exponent = int(match[2] or 0)
    if abs(exponent) > MAX_EXPONENT:
      return None, 0
    decimals = len(match[1].partition('.')[2])
    number = Fraction(match[1].removesuffix('.')) * Fraction(10) ** exponent
    return number, 0 if match[2] else decimals
  if '/' in text:  # without one the search in a long number would be slow
    text = SLASH.sub(r'\1\2\\frac{\3}{\4}', text)
  match = RATIO.fullmatch(text)
  if not match or match[2] and not (match[3] + match[4]).isdigit():
    return None, 0
  above, below = (Fraction(x.removesuffix('.')) for x in match.group(3, 4))
  if below == 0:
    return None, 0
  number = int(match[2] or 0) + above / below
  return -number if match[1] == '-' else number, 0


def _normal_text(text: str) -> str:
  r"""An expression in normal form: x^{2} as x^2, pi/2 as \frac{\pi}{2}."""
  text = re.sub(r'\\(?=[a-zA-Z])', '', cleaning.tight(text))
  text = text.translate(str.maketrans('{}', '()'))
  text = re.sub(r'([\^_])\((-?\d+|[a-zA-Z])\)(?!\d)', r'\1\2', text)
  text = re.sub(r'(?<=[\d)])\*(?=[a-zA-Z(])(?!frac)', '', text)
  text = re.sub(
    r'(?<![\w^)./])(\w+)/(\d+|[a-zA-Z]|pi)(?![\w^(.])', r'frac(\1)(\2)', text
  )
  return text.casefold() if len(text) > 1 and text.isalpha() else text
