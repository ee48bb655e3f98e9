"""Reads the text of an answer into a Value: a number, a set, a tuple, an
interval, a matrix, or other text. Nothing is evaluated."""

import re
from collections.abc import Collection

from r1jax.rewards.math import (
  approximations,
  cleaning,
  environments,
  families,
  left_sides,
  number_words,
  numbers,
  phrases,
  spellings,
  splitting,
  units,
  values,
)
from r1jax.rewards.math.values import LIST, SET, TUPLE, Value

MAX_ANSWER = 1000  # characters of an answer
MAX_DEPTH = 20  # nested brackets


THOUSANDS = re.compile(r'(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)')
SPACED = re.compile(r'[+-]?\d{1,3}(?: \d{3})+(?:\.\d+)?(?= ?(?:[^\d\s.]|$))')
AND = re.compile(r',? ?\b(and|or)\b ?')
UNEQUAL = re.compile(r'([a-zA-Z]) ?\\ne ?([^,=<>]+)')
NAMED_POINT = re.compile(r"(?:(?i:the )?[Pp]oint )?([A-Z](?:'|_\w)*) ?(\(.*\))")
BUILDER = re.compile(
  r'\\?\{ ?[a-zA-Z](?: ?\\in ?\\mathbb\{?R\}?)? ?[|:] ?(.*?) ?\\?\}'
)
REALS = re.compile(
  r'\\mathbb ?\{?R\}?|'
  r'(?i:(?:the )?(?:set of )?all (?:the )?reals?(?: numbers)?)|'
  r'(?i:\(?all reals\)?)|全体实数|实数集'
)
EXCEPT = re.compile(
  r'(?i)(?:all real numbers|all reals|\\mathbb\{R\},?)'
  r' (?:except|other than|but)(?: for)? (.*)'
)
# A \cup B = ...
SET_NAME = re.compile(r"[A-Z]'? ?(?:\\(?:cup|cap|setminus) ?[A-Z]'? ?)+=")


def read(text: str, words: Collection[str] = ()) -> Value | None:
  """The Value of a text; None if it is blank, too long or unbalanced. `words`
  are those of the gold answer that may name its unit."""
  if not text.strip() or len(text) > MAX_ANSWER:
    return None
  text, depth = cleaning.clean(text), 0
  for char in text:
    depth += (char in splitting.OPEN) - (char in splitting.CLOSE)
    if not 0 <= depth <= MAX_DEPTH:
      return None
  if not text or depth != 0 or len(text) > 2 * MAX_ANSWER:
    return None
  return _Reader(words).value(text)


class _Reader:
  """Reads values with the words of one gold answer."""

  def __init__(self, words):
    self.words = words

  def value(self, text):
    text = environments.unalign(text.strip())
    if not text.startswith(('(', '[', '{', r'\{')):
      text = THOUSANDS.sub(lambda match: match[0].replace(',', ''), text)
    if match := SPACED.match(text):
      text = match[0].replace(' ', '') + text[match.end() :]
    if match := BUILDER.fullmatch(text):
      text = match[1]
    if body := families.body(text):
      return values.as_family(self.value(body))
    if match := EXCEPT.fullmatch(text):
      excluded = re.sub(r'[a-zA-Z] ?(?:=|\\ne) ?| and ', ',', match[1])
      text = rf'\mathbb{{R}}\setminus\{{{excluded.strip(", ")}\}}'
    if compound := units.compound(text):
      return Value(kind='text', text=compound, raw=text)
    if SET_NAME.match(text):
      return self.equality(text)
    for operator in (r'\setminus', r'\cup', r'\cap'):
      if len(parts := splitting.split(text, operator)) > 1:
        return Value(kind=operator, parts=tuple(map(self.value, parts)))
    if len(parts := splitting.split(text, ';')) > 1:
      return self.several(parts, ())
    if phrases.normal(text) is None and number_words.read(text) is None:
      has_rows = splitting.ENVIRONMENT.search(text) is not None
      if has_rows and len(parts := splitting.split(text, ' or ')) > 1:
        return Value(kind=LIST, parts=tuple(map(self.value, parts)))
      listed = text if has_rows else AND.sub(',', text)
      parts = splitting.expand_signs(splitting.split(listed, ','))
      if len(parts) > 1:
        words = [] if has_rows else AND.findall(text)
        return self.several([x for x in parts if x.strip()], words)
    if match := UNEQUAL.fullmatch(text):
      parts = [rf'(-\infty,{match[2]})', rf'({match[2]},\infty)']
      parts = tuple(map(self.value, parts))
      return Value(kind=r'\cup', parts=parts, name=match[1], left='name')
    return self.equality(text)

  def equality(self, text):
    """A value with a name before it, or after it as in 3 = x."""
    sides = splitting.split(text, r'\approx')
    is_exact = left_sides.kind(sides[0]) != left_sides.NAME
    if len(sides) == 2 and sides[0].strip() and is_exact:
      exact, rounded = self.equality(sides[0].strip()), self.quantity(sides[1])
      return approximations.exact_value(exact, rounded) or self.unnamed(text)
    if values.INEQUALITY.search(text) and not splitting.split_sides(text)[1:]:
      return self.unnamed(text)
    sides = splitting.split_sides(text)
    if len(sides) == 1:
      return self.unnamed(text.removeprefix(r'\approx').strip())
    first, rest = sides[0], text[len(sides[0]) :]
    rest = splitting.SIGN.sub('', rest, count=1).strip()
    if not first.strip():  # = 5 or \approx 5
      return self.equality(rest)
    left = left_sides.kind(first)
    if left == left_sides.NAME or left == 'expression' and len(sides) == 2:
      name = left_sides.normal(first)
      value = self.unnamed(rest) if len(sides) > 2 else self.value(rest)
      if not value.name:
        return value._replace(name=name, left=left)
    is_reversed = len(sides) == 2 and left != left_sides.EXPRESSION
    if is_reversed and left_sides.VARIABLE.fullmatch(rest):
      name = left_sides.normal(rest)
      return self.unnamed(first)._replace(name=name, left=left_sides.NAME)
    return self.unnamed(text)

  def unnamed(self, text):
    text = environments.expand_determinants(text.strip())
    if REALS.fullmatch(text):
      return self.value(r'(-\infty,\infty)')
    if phrase := phrases.normal(text):
      return Value(kind='text', text=phrase, raw=text)
    if infinity := phrases.infinity(text):
      text = infinity
    if time := phrases.time(text):
      return Value(kind='time', text=' '.join(time), raw=text)
    if rows := environments.matrix(text):
      return self.matrix(rows)
    if cases := environments.cases(text):
      return self.cases(cases)
    text = phrases.clock(text)
    if ratio := splitting.ratio(text):
      if all(part.isdigit() for part in ratio):
        text = ':'.join(ratio)
        return Value(kind='text', text=text, raw=text)
      return Value(kind=':', parts=tuple(map(self.value, ratio)))
    if match := NAMED_POINT.fullmatch(text):
      point = self.unnamed(match[2])
      if point.kind == TUPLE and len(point.parts) > 1 and not point.name:
        return point._replace(name=match[1], left=left_sides.NAME)
    brackets = splitting.enclosing(text)
    return self.bracketed(text, brackets) if brackets else self.quantity(text)

  def bracketed(self, text, brackets):
    width = len(brackets) // 2
    inside = text[width:-width]
    parts = splitting.split(inside, ';')
    parts = parts if len(parts) > 1 else splitting.split(inside, ',')
    nested = [splitting.enclosing(part.strip()) for part in parts]
    if brackets == '[]' and len(parts) > 1 and set(nested) == {'[]'}:
      rows = [self.value(part)._replace(kind=TUPLE) for part in parts]
      if len({len(row.parts) for row in rows}) == 1:
        return Value(kind='matrix', parts=tuple(rows))
    if brackets in (TUPLE, SET) and len(parts) == 1:
      return self.value(inside)
    if brackets in (SET, r'\{\}'):
      parts = splitting.expand_signs(parts)
      entries = tuple(map(self.value, parts))
      named = values.point(entries) if len(entries) > 1 else None
      return named or Value(kind=SET, parts=entries)
    if len(splitting.SIGNS.findall(inside)) == 1:  # (\pm1, 2) is two points
      points = [splitting.SIGNS.sub(sign, text) for sign in '+-']
      return Value(kind=LIST, parts=tuple(map(self.value, points)))
    entries = tuple(map(self.value, parts))
    named = (
      values.point(entries) if brackets == TUPLE and len(entries) > 1 else None
    )
    return named or Value(kind=brackets, parts=entries)

  def several(self, parts, words):
    """Values between commas or the words 'and' and 'or': a list, or the point
    of x=1, y=2. Between inequalities, names or words, 'and' is not 'or'."""
    entries = tuple(map(self.value, parts))
    names = {value.name for value in entries if value.name}
    if points := values.points(entries):
      return Value(kind=LIST, parts=points)
    has_inequality = any(values.INEQUALITY.search(x.raw) for x in entries)
    if 'and' in words and has_inequality:
      return Value(kind='and', parts=entries)
    are_words = all(x.kind == 'text' and x.raw.isalpha() for x in entries)
    letters = {name.partition('_')[0] for name in names}
    if 'or' in words and (len(letters) > 1 or are_words or has_inequality):
      return Value(kind='or', parts=entries)
    if len(entries) > 1 == len(letters):
      return Value(kind=LIST, parts=entries)
    return values.point(entries) or Value(kind=LIST, parts=entries)

  def matrix(self, rows):
    """A factor times a matrix. A matrix with one column is a vector."""
    table = []
    for cells in rows.cells:
      table.append(tuple(self.cell(rows.factor, cell) for cell in cells))
    cells = tuple(cell for row in table for cell in row)
    if len(cells) > 1 and (named := values.point(cells)):
      return named
    if len(table) > 1 and all(len(row) == 1 for row in table):
      return Value(kind=TUPLE, parts=tuple(row[0] for row in table))
    parts = tuple(Value(kind=TUPLE, parts=row) for row in table)
    return Value(kind='matrix', parts=parts)

  def cell(self, factor, text):
    value = self.value(text)
    if not factor:
      return value
    number = numbers.read('-1' if factor == '-' else factor)
    if number and value.kind == 'number':
      return value._replace(number=number.value * value.number)
    return self.value(f'{factor}({text})')

  def cases(self, rows):
    """A system of equations, or a function by cases."""
    if all(len(row) == 1 for row in rows):
      return self.several([row[0] for row in rows if row[0]], ())
    parts = []
    for row in rows:
      value, condition = row[0], row[1] if len(row) > 1 else ''
      if environments.is_otherwise(condition):
        condition = ''
      read = self.value(condition) if condition else Value(kind='text')
      parts.append(Value(kind=TUPLE, parts=(self.value(value), read)))
    return Value(kind='cases', parts=tuple(parts))

  def quantity(self, text):
    """A number, or other text, with its unit."""
    text = number_words.replace(text)
    raw, factor, unit = units.split(text, self.words)
    number = numbers.read(cleaning.tight(raw))
    if number is None:
      if factor != 1:
        raw = rf'\frac{{{factor.numerator}}}{{{factor.denominator}}}*({raw})'
      normal = spellings.normal(raw)
      return Value(kind='text', text=normal, unit=unit, raw=raw)
    return Value(
      kind='number',
      number=number.value * factor,
      unit=unit,
      decimals=number.decimals if factor == 1 else 0,
      is_final=number.is_final,
    )
