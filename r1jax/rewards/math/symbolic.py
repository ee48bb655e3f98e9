r"""Decides whether two answers are mathematically equal where the exact rules
of `grading` cannot. Runs in a worker process with limits of time and memory.

- Decimals are exact, except for a gold that may be rounded.
- Equations are equal up to swapped sides and a factor other than 0,
  inequalities up to a positive factor. Inequalities in one variable, intervals
  and their unions are sets of real numbers: x > 3 equals (3, \infty).
- The value of a true chain, x = 2 + 3 = 5, is its last side; the value of
  \sqrt2 \approx 1.414 is the first.
- Units are never converted, since a problem may require one.
- A logarithm without a base has base e or 10, the same in both answers.
- Words are compared as text: "ab" is not "ba".
"""

import re

import sympy

from r1jax.rewards import verdict
from r1jax.rewards.math import (
  left_sides,
  numeric,
  parser,
  real_sets,
  spellings,
  units,
  value_forms,
)
from r1jax.rewards.math.bounded_arithmetic import Unreadable
from r1jax.rewards.math.parser import Relation
from r1jax.rewards.math.value_forms import LIST, SET, TUPLE

MAX_SET = 16  # entries of a set
INTERVALS = '()', '[]', '(]', '[)'
LEAVES = 'number', 'text'
FLIPPED = {'<': '>', '>': '<', '<=': '>=', '>=': '<='}
REAL_SETS = r'\cup', r'\cap', r'\setminus', 'and', 'or', *INTERVALS, LIST, SET
PROSE = re.compile(r"[a-zA-Z ,.'-]+")
FUNCTION = re.compile(r'sin|cos|tan|cot|sec|csc')
MAX_RELATIVE_ERROR = sympy.Rational(1, 100)  # of a number after \approx


def equal(answer: str, gold: str, final_form: bool = False) -> list:
  """The Verdict on an answer as JSON. value_forms must be able to read both.
  With final_form, the exact value of a rounded gold must be irrational."""
  is_equal, reason = False, 'not equal by mathematics'
  words = units.words_of(gold)
  try:
    value = value_forms.read(answer, words)
    gold_value = value_forms.read(gold, words)
    assert value and gold_value
    if _equal(value, gold_value):
      is_equal, reason = True, 'equal by mathematics'
      if final_form and gold_value.kind == 'number' and _is_unevaluated(value):
        is_equal, reason = False, 'equal, but not in final form'
  except Unreadable as error:
    reason = f'not read as mathematics: {error}'
  except MemoryError:
    raise
  except Exception as error:  # SymPy may raise anything on a model's text
    reason = f'not decided: {type(error).__name__}'
  return list(verdict.equality(is_equal, reason))


def _equal(a, gold):
  if not units.are_compatible(a.unit, gold.unit):
    return False
  if gold.left == left_sides.EXPRESSION and not a.name and '=' not in a.raw:
    return False
  if a.name and gold.name and a.name != gold.name and a.kind not in LEAVES:
    a, gold = map(value_forms.sort_by_name, (a, gold))
    return a.name == gold.name and _equal(a, gold)
  if a.kind in LEAVES and gold.kind in LEAVES:
    return _equal_leaves(a, gold) or _equal_real_sets(a, gold)
  if a.kind == gold.kind and a.kind in ('matrix', *INTERVALS):
    same_size = len(a.parts) == len(gold.parts)
    return same_size and all(map(_equal, a.parts, gold.parts))
  if a.kind == gold.kind == 'cases':
    return _equal_sets(a.parts, gold.parts)
  if {a.kind, gold.kind} <= {SET, LIST}:
    if _equal_sets(_entries(a), _entries(gold)):
      return True
  elif a.kind == gold.kind and a.kind in (r'\cup', 'and', 'or'):
    if _equal_sets(a.parts, gold.parts):
      return True
  elif {a.kind, gold.kind} == {TUPLE, LIST} and (a.name or gold.name):
    same_size = len(a.parts) == len(gold.parts)
    return same_size and all(map(_equal, a.parts, gold.parts))
  if (
    a.kind in INTERVALS
    and gold.kind in LEAVES
    or (gold.kind in INTERVALS and a.kind in LEAVES)
  ):
    leaf, other = (a, gold) if a.kind in LEAVES else (gold, a)
    if _equals_interval(leaf, other):
      return True
  return _equal_real_sets(a, gold)


def _is_unevaluated(value):
  r"""Whether a text is an expression of a rational number, \frac{\sqrt4}3."""
  if value.kind != 'text' or '=' in value.raw or r'\approx' in value.raw:
    return False
  return _relation(value, named=False).sides[0].is_rational is not False


def _entries(value):
  """The entries of a list, and the different ones of a set in braces."""
  if value.kind == LIST:
    return value.parts
  entries: list = []
  for part in value.parts[: MAX_SET + 1]:
    if not any(_equal(part, entry) for entry in entries):
      entries.append(part)
  return entries


def _equal_leaves(a, gold):
  """Whether two numbers, expressions, equations or inequalities are equal."""
  plain = dict(decimals=0, raw='', is_final=False)
  if a._replace(**plain) == gold._replace(**plain):
    return True
  if PROSE.fullmatch(a.raw) and PROSE.fullmatch(gold.raw):
    return spellings.are_same_product(a.raw, gold.raw)
  # A name that only one of them has, f(x) = or x =, is ignored; so is one that
  # both have.
  is_same_name = a.name == gold.name != ''
  has_sides = gold.name or '=' in gold.raw, a.name or '=' in a.raw
  relation = _relation(a, bool(has_sides[0]) and not is_same_name)
  gold_relation = _relation(gold, bool(has_sides[1]) and not is_same_name)
  if relation.signs or gold_relation.signs:
    return _equal_relations(relation, gold_relation)
  (x,), (y,) = relation.sides, gold_relation.sides
  if units.is_percent(a.unit) != units.is_percent(gold.unit):
    shares = (x / 100, y) if units.is_percent(a.unit) else (x, y / 100)
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


def _relation(value, named: bool = True) -> Relation:
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


def _equal_real_sets(a, gold):
  """Whether both are the same set of real numbers, of the same variable."""
  if not any(map(_is_set_of_reals, (a, gold))):
    return False
  (name, numbers), (gold_name, golds) = map(_real_set, (a, gold))
  if name and gold_name and name != gold_name:
    return False
  return real_sets.equal(numbers, golds)


def _is_set_of_reals(value):
  if value.kind in (r'\cup', r'\cap', r'\setminus') or _has_inequality(value):
    return True
  return value.kind == LIST and any(map(_is_set_of_reals, value.parts))


def _has_inequality(value):
  if value.kind in LEAVES:
    return value_forms.INEQUALITY.search(value.raw) is not None
  return any(map(_has_inequality, value.parts))


def _real_set(value):
  """(variable or '', set of real numbers)."""
  if value.text == 'no solution':
    return value.name, []
  if value.kind in LEAVES:
    variable, numbers = real_sets.solve(_relation(value, named=False))
    return str(variable), numbers
  if value.kind not in REAL_SETS:
    raise Unreadable('not a set of real numbers')
  if value.kind in INTERVALS and not _has_inequality(value):
    if len(value.parts) != 2:
      raise Unreadable('not an interval')
    ends = [_bound(part) for part in value.parts]
    return value.name, real_sets.interval(*ends, value.kind)
  is_points = all(part.kind in LEAVES for part in value.parts)
  if value.kind in (SET, LIST) and is_points and not _has_inequality(value):
    numbers = []
    for part in value.parts[:MAX_SET]:
      numbers = real_sets.union(numbers, real_sets.point(_bound(part)))
    return value.name, numbers
  return _combined(value)


def _combined(value):
  sets = [_real_set(part) for part in value.parts[:MAX_SET]]
  names = {name for name, _ in sets if name}
  if len(names) > 1:
    raise Unreadable('several variables')
  kind, (first, *others) = value.kind, [numbers for _, numbers in sets]
  if kind in (LIST, TUPLE):  # x > 1, x < 2: both, if that is possible
    both = first
    for other in others:
      both = real_sets.intersection(both, other)
    if both:
      return max(names, default=''), both
    kind = 'or'
  combine = real_sets.union
  if kind in ('and', r'\cap'):
    combine = real_sets.intersection
  elif kind == r'\setminus':
    combine = real_sets.difference
  for other in others:
    first = combine(first, other)
  return max(names, default='') or value.name, first


def _bound(value):
  if value.kind not in LEAVES:
    raise Unreadable('the end of an interval is not a number')
  relation = _relation(value)
  if relation.signs:
    raise Unreadable('the end of an interval is not a number')
  return relation.sides[0]


def _equals_interval(leaf, interval):
  """Whether a leaf, a < x < b with other variables in a and b, is an inequality
  with the same solutions as the interval."""
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
