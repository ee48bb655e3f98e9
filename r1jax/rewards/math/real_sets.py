r"""Sets of real numbers as unions of intervals: what inequalities in one
variable, intervals, \cup, \cap and \setminus denote."""

import sympy

from r1jax.rewards.math import numeric
from r1jax.rewards.math.bounded_arithmetic import Unreadable
from r1jax.rewards.math.parser import Relation

FLIPPED = {'<': '>', '>': '<', '<=': '>=', '>=': '<=', '!=': '!='}
MAX_INTERVALS = 40
INFINITIES = sympy.oo, -sympy.oo

# An interval is (low, has low, high, has high); a set is a sorted list of them.
REALS = [(-sympy.oo, False, sympy.oo, False)]


def interval(low, high, brackets: str) -> list:
  """(low, high], with the brackets that are given; it must not be empty."""
  for end in (low, high):
    if not (end in INFINITIES or end.is_real and not end.free_symbols):
      raise Unreadable('the end of an interval is not a real number')
  has_low, has_high = brackets[0] == '[', brackets[1] == ']'
  if has_low and low == -sympy.oo or has_high and high == sympy.oo:
    raise Unreadable('infinity is in no interval')
  order = compare(low, high)
  if order > 0 or order == 0 and not (has_low and has_high):
    raise Unreadable('an interval has its ends in the wrong order')
  return [(low, has_low, high, has_high)]


def point(value) -> list:
  return interval(value, value, '[]')


def solve(relation: Relation) -> tuple[sympy.Symbol, list]:
  """(variable, solutions) of a chain of inequalities, each linear in one
  variable or in its absolute value."""
  symbols = set().union(*(side.free_symbols for side in relation.sides))
  if len(symbols) != 1 or not relation.signs:
    raise Unreadable('not an inequality in one variable')
  (variable,) = symbols
  solutions = REALS
  for n, sign in enumerate(relation.signs):
    if sign not in FLIPPED:
      raise Unreadable(f'{sign} in an inequality')
    a, b = relation.sides[n : n + 2]
    solutions = intersection(solutions, _solve_one(a, sign, b, variable))
  return variable, solutions


def union(a: list, b: list) -> list:
  return _combine(a, b, any)


def intersection(a: list, b: list) -> list:
  return _combine(a, b, all)


def difference(a: list, b: list) -> list:
  return _combine(a, b, lambda both: both[0] and not both[1])


def equal(a: list, b: list) -> bool:
  if len(a) != len(b):
    return False
  for x, y in zip(a, b):
    if (x[1], x[3]) != (y[1], y[3]):
      return False
    if compare(x[0], y[0]) or compare(x[2], y[2]):
      return False
  return True


def compare(a, b) -> int:
  """-1, 0 or 1 as a < b, a = b or a > b."""
  if a == b or not {a, b} & set(INFINITIES) and numeric.equal(a, b):
    return 0
  if a in INFINITIES or b in INFINITIES:
    return -1 if a == -sympy.oo or b == sympy.oo else 1
  return -1 if sympy.N(a - b, 30) < 0 else 1


def _solve_one(a, sign, b, variable):
  f = sympy.expand(a - b)
  if f.is_polynomial(variable) and sympy.degree(f, variable) == 1:
    slope = f.coeff(variable, 1)
    return _half_line(-f.coeff(variable, 0) / slope, sign, slope)
  if b.has(variable):
    a, b, sign = b, a, FLIPPED[sign]
  factor, a = a.as_coeff_Mul()
  if not factor.is_positive:
    raise Unreadable('an inequality that is not linear')
  b = b / factor
  if not isinstance(a, sympy.Abs) or b.has(variable) or not b.is_positive:
    raise Unreadable('an inequality that is not linear')
  inside = [_solve_one(a.args[0], sign, b, variable)]
  inside.append(_solve_one(-a.args[0], sign, b, variable))
  combine = intersection if sign in ('<', '<=', '!=') else union
  return combine(*inside)


def _half_line(end, sign, slope):
  if slope.is_negative:
    sign = FLIPPED[sign]
  elif not slope.is_positive:
    raise Unreadable('a slope of unknown sign')
  if sign == '!=':
    return difference(REALS, point(end))
  if sign[0] == '<':
    return interval(-sympy.oo, end, '(' + (']' if '=' in sign else ')'))
  return interval(end, sympy.oo, ('[' if '=' in sign else '(') + ')')


def _combine(a, b, is_in):
  """The set of the numbers for which is_in([in a, in b])."""
  if len(a) + len(b) > MAX_INTERVALS:
    raise Unreadable('too many intervals')
  ends = []
  for low, _, high, _ in [*a, *b]:
    for end in (low, high):
      place = 0
      while place < len(ends) and compare(ends[place], end) < 0:
        place += 1
      if place == len(ends) or compare(ends[place], end):
        ends.insert(place, end)
  # Alternately an end, and the open interval after it.
  pieces = []
  for n, end in enumerate(ends):
    if end not in INFINITIES:
      pieces.append((end, True, end, True))
    if n + 1 < len(ends):
      pieces.append((end, False, ends[n + 1], False))
  chosen: list = []
  for piece in pieces:
    if not is_in([_contains(a, piece), _contains(b, piece)]):
      continue
    low, has_low, high, has_high = piece
    if chosen and _touch(chosen[-1], piece):
      first = chosen.pop()
      low, has_low = first[0], first[1]
    chosen.append((low, has_low, high, has_high))
  return chosen


def _contains(intervals, piece):
  """Whether an elementary piece lies in a set."""
  for low, has_low, high, has_high in intervals:
    after, before = compare(low, piece[0]), compare(piece[2], high)
    if after > 0 or before > 0:
      continue
    is_point = piece[1]
    if is_point and (
      after == 0 and not has_low or before == 0 and not has_high
    ):
      continue
    return True
  return False


def _touch(a, b):
  """Whether interval b begins where a ends, with no number between them."""
  return compare(a[2], b[0]) == 0 and (a[3] or b[1])
