"""The value of an answer, as value_forms reads it, and its entries' names."""

import re
from fractions import Fraction
from typing import NamedTuple

from r1jax.rewards.math import left_sides

MIN_ROUNDED_DIGITS = 3  # decimals of a gold that may be a rounded number
LIST, SET, TUPLE = ',', '{}', '()'
INEQUALITY = re.compile(r'[<>]|\\(?:[lg]eq?|[lg]eqslant|[lg]t)(?![a-z])')


class Value(NamedTuple):
  r"""An answer. A 'number' has `number`, a 'text' has `text`; a 'time' is a
  text. All other kinds have `parts`, in written order: 'matrix', 'cases', the
  brackets of a tuple or an interval, as '(]', ',' for values between commas,
  '{}' for a set in braces, r'\cup', r'\cap' and r'\setminus' of sets, 'and' and
  'or' for alternatives."""

  kind: str
  number: Fraction = Fraction(0)
  text: str = ''  # in normal form, for comparison
  parts: tuple['Value', ...] = ()
  unit: str = ''
  name: str = ''  # before the value, as in x = 3
  left: str = ''  # what the name is: left_sides.NAME or EXPRESSION
  decimals: int = 0  # after the point of a number
  is_final: bool = False  # of a number: nothing is left to be carried out
  raw: str = ''  # the LaTeX of a text, without its unit
  is_family: bool = False  # k is any integer


def point(values: tuple[Value, ...]) -> Value | None:
  """The point (x,y) of x=1, y=2; None if the values have no names."""
  names = [value.name for value in values if value.name]
  letters = {name.partition('_')[0] for name in names}
  is_one = len(values) > 1 == len(letters)  # x_1 and x_2 are values of x
  if len(set(names)) != len(values) or is_one:
    return None
  parts = tuple(x._replace(name='', left='') for x in values)
  name = f'({",".join(names)})'
  return Value(kind=TUPLE, parts=parts, name=name, left=left_sides.NAME)


def points(entries: tuple[Value, ...]) -> tuple[Value, ...]:
  """The points of x=1, y=2, x=3, y=4; () if the names are not repeated so."""
  names = {entry.name for entry in entries}
  count = len(names)
  if '' in names or not 1 < count < len(entries) or len(entries) % count:
    return ()
  found = []
  for n in range(0, len(entries), count):
    named = point(entries[n : n + count])
    if named is None:
      return ()
    found.append(named)
  return tuple(found)


def as_family(value: Value) -> Value:
  """The value, or each value of a list, for any integer k. The ends of an
  interval belong to one k, so they are compared as expressions."""
  parts = value.parts
  if value.kind in (LIST, SET, 'or'):
    parts = tuple(map(as_family, parts))
  return value._replace(parts=parts, is_family=True)


def may_be_rounded(gold: Value) -> bool:
  """Whether a number has three or more decimals, from its first digit on."""
  digits = abs(gold.number) * 10**gold.decimals
  least = MIN_ROUNDED_DIGITS
  return gold.decimals >= least and digits >= 10 ** (least - 1)


def is_same_name(name: str, gold: str) -> bool:
  """Whether two names are one, or the second the first without a number, as
  x_1 and x_2 are the values of x."""
  return name == gold or re.sub(r'_\d$', '', name) == gold != ''


def part_names(value: Value) -> list[str]:
  """The names of the entries of a value; '' for one without a name."""
  names = value.name.removeprefix('(').removesuffix(')').split(',')
  if len(names) == len(value.parts) > 1:
    return names
  return [part.name for part in value.parts]


def have_same_names(a: Value, b: Value) -> bool:
  """Whether two points, matrices or lists have no entries in one place that
  have different names. (2,3) is neither y=2, x=3 nor y=3, x=2: its order is
  not known to be that of these names."""
  if SET in (a.kind, b.kind):
    return True
  names, others = part_names(a), part_names(b)
  if any(names) != any(others) and TUPLE == a.kind == b.kind:
    known = names if any(names) else others
    if set(known) <= {'x', 'y', 'z'} and known != sorted(known):
      return False
  return all(x == y for x, y in zip(names, others) if x and y)


def is_named(*values: Value) -> bool:
  """Whether one of two points or lists has names, which give its order."""
  for value in values:
    names = {part.name for part in value.parts if part.name}
    if value.name or 1 < len(names) == len(value.parts):
      return True
  return False


def sort_by_name(value: Value) -> Value:
  """The point of x=1, y=2 with its parts in the order of their names."""
  names = value.name.removeprefix('(').removesuffix(')').split(',')
  if value.kind != TUPLE or len(names) != len(value.parts) or len(names) < 2:
    return value
  pairs = sorted(zip(names, value.parts), key=lambda pair: pair[0])
  name = f'({",".join(name for name, _ in pairs)})'
  return value._replace(name=name, parts=tuple(part for _, part in pairs))
