r"""Decides whether two answers are mathematically equal where the exact rules
of `grading` cannot. Runs in a worker process with limits of time and memory.

- Decimals are exact, except for a gold that may be rounded.
- Equations are equal up to swapped sides and a factor other than 0,
  inequalities up to a positive factor. x > 3 equals (3, \infty), and "x < 1 or
  x > 2" equals a union.
- The value of a true chain, x = 2 + 3 = 5, is its last side; the value of
  \sqrt2 \approx 1.414 is the first.
- Units are never converted, since a problem may require one.
- A logarithm without a base has base e or 10, the same in both answers.
- Words are compared as text: "ab" is not "ba".
"""

import re

import sympy

from r1jax.rewards import verdict
from r1jax.rewards.math import numeric, parser, value_forms
from r1jax.rewards.math.bounded_arithmetic import Unreadable
from r1jax.rewards.math.parser import Relation
from r1jax.rewards.math.value_forms import Value

MAX_SET = 12  # entries of a set
INTERVALS = '()', '[]', '(]', '[)'
LEAVES = 'number', 'text'
FLIPPED = {'<': '>', '>': '<', '<=': '>=', '>=': '<='}
PROSE = re.compile(r"[a-zA-Z ,.'-]+")
FUNCTION = re.compile(r'sin|cos|tan|cot|sec|csc')
MAX_RELATIVE_ERROR = sympy.Rational(1, 100)  # of a number after \approx


def equal(answer: str, gold: str) -> list:
  """The Verdict on an answer as JSON. value_forms must be able to read both."""
  is_equal, reason = False, 'not equal by mathematics'
  try:
    if _equal(value_forms.read(answer), value_forms.read(gold)):
      is_equal, reason = True, 'equal by mathematics'
  except Unreadable as error:
    reason = f'not read as mathematics: {error}'
  except MemoryError:
    raise
  except Exception as error:  # SymPy may raise anything on a model's text
    reason = f'not decided: {type(error).__name__}'
  return list(verdict.equality(is_equal, reason))


def _equal(a, gold):
  if a.unit and gold.unit and a.unit != gold.unit:
    return False
  if a.name and gold.name and a.name != gold.name and a.kind not in LEAVES:
    return False
  if a.kind in LEAVES and gold.kind in LEAVES:
    return _equal_leaves(a, gold)
  if a.kind == gold.kind and a.kind in ('matrix', *INTERVALS):
    same_size = len(a.parts) == len(gold.parts)
    return same_size and all(map(_equal, a.parts, gold.parts))
  if a.kind == gold.kind and a.kind in ('{}', r'\cup', 'and', 'or'):
    return _equal_sets(a.parts, gold.parts)
  if {a.kind, gold.kind} == {'{}', r'\cup'}:
    alternatives = a.parts if a.kind == '{}' else gold.parts
    solutions = [_solve(part) for part in alternatives]
    # The alternatives must be inequalities in one variable.
    if None in solutions or len({variable for variable, *_ in solutions}) > 1:
      return False
    return _equal_sets(a.parts, gold.parts)
  leaf, other = (a, gold) if a.kind in LEAVES else (gold, a)
  if leaf.kind in LEAVES and other.kind in INTERVALS:
    return _equals_interval(leaf, other)
  return False


def _equal_leaves(a, gold):
  """Whether two numbers, expressions, equations or inequalities are equal."""
  if a._replace(decimals=0, raw='') == gold._replace(decimals=0, raw=''):
    return True
  if PROSE.fullmatch(a.raw) and PROSE.fullmatch(gold.raw):
    return False
  # A name that only one of them has, f(x) = or x =, is ignored.
  relation = _relation(a, bool(gold.name) or '=' in gold.raw)
  gold_relation = _relation(gold, bool(a.name) or '=' in a.raw)
  if relation.signs or gold_relation.signs:
    return _equal_relations(relation, gold_relation)
  (x,), (y,) = relation.sides, gold_relation.sides
  if (a.unit == '%') != (gold.unit == '%'):
    shares = (x / 100, y) if a.unit == '%' else (x, y / 100)
    if numeric.equal(*shares):
      return True
    # A missing percent sign is accepted above 1.
    return y.is_number and not numeric.near(y, 0, 1) and numeric.equal(x, y)
  if gold.decimals >= value_forms.MIN_ROUNDED_DECIMALS:
    return numeric.near(x, y, sympy.Rational(1, 2 * 10**gold.decimals))
  return numeric.equal(x, y)


def _equal_sets(parts, golds):
  """Whether the entries can be paired so that each pair is equal."""
  if len(parts) != len(golds) or len(parts) > MAX_SET:
    return False
  remaining = list(parts)
  for gold in golds:
    # The first equal entry can be used, since equality is transitive.
    equal_part = next((part for part in remaining if _equal(part, gold)), None)
    if equal_part is None:
      return False
    remaining.remove(equal_part)
  return True


def _relation(value: Value, named: bool = True) -> Relation:
  """A leaf as a relation; if `named`, its first side is the leaf's name."""
  relation = Relation([sympy.Rational(value.number)], [])
  if value.kind == 'text':
    # The degrees of an angle in a function are not a unit of the answer.
    is_angle = value.unit == 'deg' and FUNCTION.search(value.raw)
    text = value.raw + ' deg' if is_angle else value.raw
    relation = _evaluate_chain(parser.parse(text), value.name)
  if not named or not value.name:
    return relation
  sides = [*parser.parse(value.name).sides, *relation.sides]
  return Relation(sides, ['=', *relation.signs])


def _evaluate_chain(relation, name):
  r"""The value of a true chain of =, or of one \approx; else the relation."""
  sides, signs = relation
  if signs == ['~']:
    exact, rounded = sides
    if rounded.is_Rational:
      if numeric.near(exact, rounded, abs(rounded) * MAX_RELATIVE_ERROR):
        return Relation([exact], [])
    raise Unreadable(r'the sides of \approx differ by more than one percent')
  if not signs or set(signs) != {'='}:
    return relation
  *steps, last = sides
  if name and not last.free_symbols:
    # The formula between a name and a number, A = lw = 20, is not compared.
    steps = [side for side in steps if not side.free_symbols]
  if all(numeric.equal(side, last) for side in steps):
    return Relation([last], [])
  return relation


def _equal_relations(a, gold):
  """Whether two equations, or two inequalities, have the same solutions."""
  if len(a.sides) != len(gold.sides):
    return False
  is_equation = a.signs == gold.signs and a.signs in (['='], ['!='])
  if not is_equation:
    if not set(a.signs + gold.signs) <= set(FLIPPED):
      return False
    a, gold = _with_first_sign('>', a), _with_first_sign('>', gold)
    if a.signs != gold.signs:
      return False
    if len(a.sides) > 2:
      return all(map(numeric.equal, a.sides, gold.sides))
  x, y = a.sides[0] - a.sides[1], gold.sides[0] - gold.sides[1]
  return numeric.proportional(x, y, any_sign=is_equation)


def _with_first_sign(sign, relation):
  """x < 3 as 3 > x, if the sign is '>'."""
  sides, signs = relation
  if signs[0][0] == sign:
    return relation
  return Relation(sides[::-1], [FLIPPED[sign] for sign in reversed(signs)])


def _solve(leaf):
  """(variable, brackets, ends): the interval of an inequality in one variable.
  None for any other value."""
  sides, signs = _relation(leaf) if leaf.kind in LEAVES else ([], [])
  if not signs or not set(signs) <= set(FLIPPED):
    return None
  if len(sides) == 2 and sides[1].is_Symbol:
    sides, signs = sides[::-1], [FLIPPED[signs[0]]]
  if len(sides) == 2:
    infinity = -sympy.oo if signs[0][0] == '<' else sympy.oo
    sides, signs = [infinity, *sides], [signs[0][0], *signs]
  sides, signs = _with_first_sign('<', Relation(sides, signs))
  if len(sides) != 3 or not sides[1].is_Symbol or signs[1][0] != '<':
    return None
  opening = '[' if '=' in signs[0] else '('
  closing = ']' if '=' in signs[1] else ')'
  return sides[1], opening + closing, [sides[0], sides[2]]


def _equals_interval(leaf, interval):
  """Whether a leaf is an inequality with the same solutions as the interval."""
  solution = _solve(leaf)
  if solution is None or len(interval.parts) != 2:
    return False
  variable, brackets, ends = solution
  if brackets != interval.kind or interval.name not in ('', str(variable)):
    return False
  bounds = [_relation(part) for part in interval.parts]
  if any(bound.signs for bound in bounds):
    return False
  return all(map(numeric.equal, ends, [bound.sides[0] for bound in bounds]))
