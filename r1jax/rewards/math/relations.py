r"""Equations, inequalities and chains of them, read from the Value of an answer
and compared.

- The value of a true chain, x = 2 + 3 = 5, is its last side; the value of
  \sqrt2 \approx 1.414 is the first.
- Equations are equal up to swapped sides and a factor other than 0,
  inequalities up to a positive factor.
"""

import re

import sympy

from r1jax.rewards.math import numeric, parser
from r1jax.rewards.math.bounded_arithmetic import Unreadable
from r1jax.rewards.math.parser import Relation

FLIPPED = {'<': '>', '>': '<', '<=': '>=', '>=': '<='}
FUNCTION = re.compile(r'sin|cos|tan|cot|sec|csc|deg')
MAX_RELATIVE_ERROR = sympy.Rational(1, 100)  # of a number after \approx


def read(value, named: bool = True) -> Relation:
  """A leaf as a relation; if `named`, its first side is the leaf's name."""
  relation = Relation([sympy.Rational(value.number)], [])
  if value.kind == 'text':
    # The degrees of an angle in a function are not a unit of the answer.
    is_angle = value.unit == 'degree' and FUNCTION.search(value.raw)
    text = value.raw + ' deg' if is_angle else value.raw
    relation = _evaluate_chain(parser.parse(text), value.name)
  if not named or not value.name:
    return relation
  sides = [*parser.parse(value.name).sides, *relation.sides]
  return Relation(sides, ['=', *relation.signs])


def _evaluate_chain(relation, name):
  r"""The value of a true chain of =, or of one that ends with \approx; else the
  relation."""
  sides, signs = relation
  if '~' in signs:
    if signs.count('~') > 1 or signs[-1] != '~' or not sides[-1].is_Rational:
      raise Unreadable(r'\approx before another sign')
    exact, rounded = sides[-2:]
    if not numeric.near(exact, rounded, abs(rounded) * MAX_RELATIVE_ERROR):
      raise Unreadable(r'the sides of \approx differ by more than one percent')
    sides, signs = sides[:-1], signs[:-1]
    if not signs:
      return Relation(sides, [])
  if not signs or set(signs) != {'='}:
    return relation
  *steps, last = sides
  if name and not last.free_symbols:
    # The formula between a name and a number, A = lw = 20, is not compared.
    steps = [side for side in steps if not side.free_symbols]
  if all(numeric.equal(side, last) for side in steps):
    return Relation([last], [])
  return Relation(sides, signs)


def equal(a, gold):
  """Whether two equations, or two inequalities, have the same solutions."""
  if len(a.sides) != len(gold.sides):
    return False
  is_equation = a.signs == gold.signs and a.signs in (['='], ['!='])
  if not is_equation:
    if not set(a.signs + gold.signs) <= set(FLIPPED):
      return False
    a, gold = with_first_sign('>', a), with_first_sign('>', gold)
    if a.signs != gold.signs:
      return False
    if len(a.sides) > 2:
      return all(map(numeric.equal, a.sides, gold.sides))
  x, y = a.sides[0] - a.sides[1], gold.sides[0] - gold.sides[1]
  return numeric.proportional(x, y, any_sign=is_equation)


def with_first_sign(sign, relation):
  """x < 3 as 3 > x, if the sign is '>'."""
  sides, signs = relation
  if signs[0][0] == sign:
    return relation
  return Relation(sides[::-1], [FLIPPED[sign] for sign in reversed(signs)])
