r"""What a mathematical answer says: its text read into numbers, brackets and
one spelling of the rest. Nothing is evaluated; no step is worse than linear."""

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

from r1jax.rewards import math_units

MAX_ANSWER = 1000  # characters of an answer that is read at all
MAX_DEPTH = 20  # nested brackets
MAX_EXPONENT = 1000

OPEN, CLOSE = '([{', ')]}'
FUNCTIONS = math_units.FUNCTIONS

SPELLINGS = {
  **dict.fromkeys('−–‐‑﹣', '-'),
  **dict.fromkeys('\u2009\u202f\u00a0', r'\,'),  # thin and no-break spaces
  **dict.fromkeys('⁄∕', '/'),
  **dict.fromkeys('·⋅', r'\cdot '),
  **{'×': r'\times ', 'π': r'\pi ', '∞': r'\infty ', '∪': r'\cup '},
  **{'∈': r'\in ', '±': r'\pm ', '°': r'^\circ ', '≤': r'\le ', '≥': r'\ge '},
}
SMALL = '⁰¹²³⁴⁵⁶⁷⁸⁹⁻', '₀₁₂₃₄₅₆₇₈₉'

# One spelling of LaTeX, applied in this order.
REWRITES = [
  (re.compile(pattern), new)
  for pattern, new in (
    (r'\s+', ' '),
    (r'\\\\', '\n'),  # the next row of a matrix
    (r'\\! ?', ''),
    (
      r'(?<![\d.])\d{1,3}(?:(?:\\,|\{,\})\d{3})+(?!\d)',
      lambda match: re.sub(r'\D', '', match[0]),
    ),
    (r'\\[,;: ]|\\q?quad(?![a-zA-Z])|(?<=\S)~', ' '),
    (r'^(?:the )?(?:final )?answer(?: is)?:? |^答案(?:是|为|:)? ?', ''),
    (r'\\[()\[\]]|\\[bB]igg?[lr]?(?![a-zA-Z])', ''),
    (r'\\(?:left|right|displaystyle|boxed|fbox)(?![a-zA-Z])', ''),
    (
      r'\\(?:text(?:bf|it|rm)?|mbox|math(?:rm|bf)|operatorname) ?\{([^{}]*)\}',
      r' \1 ',
    ),
    (r'\\[dtc]frac', r'\\frac'),
    (r' ?\^ ?(?:\{ ?\\circ ?\}|\\circ)|\\degree(?![a-z])', ' deg '),
    (r' ?(?:\*|\\(?:cdot|times)(?![a-zA-Z])) ?', '*'),
    (r'√ ?(\d+|[a-zA-Z])', r'\\sqrt{\1}'),
    (r'√', r'\\sqrt'),
    (r'(\\frac|\\sqrt) ?(\d|(?<= )[a-zA-Z])', r'\1{\2}'),
    (r'(\\frac) ?(\{[^{}]*\}) ?([\da-zA-Z])', r'\1\2{\3}'),
    (r'\\([$%])', r'\1'),
    (r' +', ' '),
    (r' (?=[\^_,)\]}])|(?<=[(\[{]) ', ''),
  )
]
THOUSANDS = re.compile(r'(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)')
SPACED = re.compile(r'[+-]?\d{1,3}(?: \d{3}){2,}')
AND = re.compile(r',? ?\b(?:and|or)\b ?')
NAME = re.compile(
  r'((?:[a-zA-Z]|\\[a-z]+)(?:_\w|_\{\w+\}|\(-?\w+\))?|\([a-z](?:, ?[a-z])+\))'
  r' ?(?:=|\\in(?![a-z])) ?'
)
MATRIX = re.compile(r'\\begin\{([pb]?matrix)\}(.*)\\end\{\1\}', re.DOTALL)

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
  text, depth = clean(text), 0
  for c in text:
    depth += (c in OPEN) - (c in CLOSE)
    if not 0 <= depth <= MAX_DEPTH:
      return None
  return _value(text) if text and depth == 0 else None


def clean(text):
  """One spelling of digits, signs, spaces and LaTeX's ornaments."""
  if not text.isascii():
    for mark, small in zip('^_', SMALL):
      big = str.maketrans(small, '0123456789-'[: len(small)])
      text = re.sub(
        f'[{small}]+', lambda m: f'{mark}{{{m[0].translate(big)}}}', text
      )
    text = ''.join(map(_spelling, text))
  text = text.strip()
  if text.startswith('**') and text.endswith('**'):
    text = text[2:-2]
  if len(re.findall(r'(?<!\\)\$', text)) % 2 == 0:
    text = re.sub(r'(?<!\\)\$', '', text)
  for pattern, new in REWRITES:
    text = pattern.sub(new, text)
  return text.strip().removesuffix('.').strip()


def _spelling(c):
  if c.isascii() or c in SPELLINGS:
    return SPELLINGS.get(c, c)
  if c.isdecimal():
    return str(unicodedata.decimal(c))
  form = unicodedata.normalize('NFKC', c)
  if '⁄' in form:  # ½ and its like, perhaps after a whole number
    return f' {form} '.replace('⁄', '/')
  if unicodedata.category(c) == 'Cf':
    return ''
  return form if form.isascii() and not c.isnumeric() else c


def _value(text):
  text = text.strip()
  if not text.startswith(('(', '[', '{', r'\{')):
    text = THOUSANDS.sub(lambda match: match[0].replace(',', ''), text)
  if SPACED.fullmatch(text):
    text = text.replace(' ', '')
  if len(parts := _split(text, r'\cup')) > 1:
    return Value(r'\cup', _ordered(parts))
  if len(parts := _alternatives(_split(AND.sub(',', text), ','))) > 1:
    return Value('{}', _ordered(parts))
  name = ''
  if match := NAME.match(text):
    name, text = match[1].replace(' ', ''), text[match.end() :]
  if match := MATRIX.fullmatch(text):
    rows = [row.split('&') for row in match[2].strip('\n ').split('\n')]
    body = tuple(Value('()', tuple(map(_value, row))) for row in rows)
    return Value('matrix', body, name=name)
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
  r"""Writes a part with one \pm outside brackets as two."""
  pieces = [_split(part, r'\pm') for part in parts]
  return [
    sign.join(piece)
    for piece in pieces
    for sign in (('+', '-') if len(piece) == 2 else (r'\pm',))
  ]


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
  core, unit = math_units.split(text)
  number, decimals = _number(tight(core))
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


def tight(text):
  """Without spaces, save those between two digits: "3 4" is not 34."""
  return re.sub(r'(?<!\d) +| +(?!\d)', '', text)


def _flat(text):
  r"""One spelling of an expression: x^{2} as x^2, pi/2 as \frac{\pi}{2}."""
  text = re.sub(r'\\(?=[a-zA-Z])', '', tight(text))
  text = text.translate(str.maketrans('{}', '()'))
  text = re.sub(r'([\^_])\((-?\d+|[a-zA-Z])\)(?!\d)', r'\1\2', text)
  text = re.sub(r'(?<=[\d)])\*(?=[a-zA-Z(])(?!frac)', '', text)
  text = re.sub(
    r'(?<![\w^)./])(\w+)/(\d+|[a-zA-Z]|pi)(?![\w^(.])', r'frac(\1)(\2)', text
  )
  return text.casefold() if len(text) > 1 and text.isalpha() else text
