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

import sympy

from r1jax.rewards import verdict
from r1jax.rewards.math import (
  family_values,
  left_sides,
  numeric,
  piecewise,
  relations,
  solution_sets,
  spellings,
  units,
  value_forms,
  values,
  vectors,
)
from r1jax.rewards.math.bounded_arithmetic import Unreadable
from r1jax.rewards.math.values import LIST, SET, TUPLE

MAX_SET = 16  # entries of a set
INTERVALS = '()', '[]', '(]', '[)'
LEAVES = 'number', 'text'


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
      if final_form and _asks_for_number(gold_value) and _is_unevaluated(value):
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
    a, gold = map(values.sort_by_name, (a, gold))
    return a.name == gold.name and _equal(a, gold)
  if not values.have_same_names(a, gold):
    return False
  if a.kind in LEAVES and gold.kind in LEAVES:
    return _equal_leaves(a, gold) or solution_sets.equal(a, gold)
  if a.kind == gold.kind and a.kind in ('matrix', ':', *INTERVALS):
    same_size = len(a.parts) == len(gold.parts)
    return same_size and all(map(_equal, a.parts, gold.parts))
  if 'cases' in (a.kind, gold.kind):
    return _have_same_cases(a, gold) or piecewise.equal(a, gold)
  if {a.kind, gold.kind} <= {SET, LIST}:
    if _equal_sets(_entries(a), _entries(gold)):
      return True
  elif a.kind == gold.kind and a.kind in (r'\cup', 'and', 'or'):
    if _equal_sets(a.parts, gold.parts):
      return True
  elif {a.kind, gold.kind} == {TUPLE, LIST} and values.is_named(a, gold):
    same_size = len(a.parts) == len(gold.parts)
    return same_size and all(map(_equal, a.parts, gold.parts))
  if (
    a.kind in INTERVALS
    and gold.kind in LEAVES
    or (gold.kind in INTERVALS and a.kind in LEAVES)
  ):
    leaf, other = (a, gold) if a.kind in LEAVES else (gold, a)
    if solution_sets.equals_interval(leaf, other):
      return True
  if TUPLE in (a.kind, gold.kind) and 'text' in (a.kind, gold.kind):
    leaf, point = (a, gold) if a.kind == 'text' else (gold, a)
    if r'\hat' in leaf.raw:
      return _is_vector(leaf, point)
  return solution_sets.equal(a, gold)


def _have_same_cases(a, gold):
  """Whether the branches are equal in pairs; functions of several variables can
  be compared in no other way."""
  if a.kind != gold.kind:
    return False
  try:
    return _equal_sets(a.parts, gold.parts)
  except Unreadable:  # otherwise
    return False


def _is_vector(leaf, point):
  """Whether a sum of unit vectors has the entries of the point."""
  vector = relations.read(leaf, named=False)
  entries = [
    relations.read(part) for part in point.parts if part.kind in LEAVES
  ]
  count = len(point.parts)
  if vector.signs or len(entries) != count or any(x.signs for x in entries):
    return False
  components = vectors.components(vector.sides[0], count)
  if components is None or not 2 <= count <= 3:
    return False
  return all(map(numeric.equal, components, [x.sides[0] for x in entries]))


def _may_be_one_product(name, gold):
  """Whether two names may be of one quantity: PV and VP, but not the angles ABC
  and BAC."""
  return not (name.isalpha() and name.isupper() and len(name) > 2)


def _asks_for_number(gold):
  return gold.kind == 'number' and gold.left != left_sides.EXPRESSION


def _is_unevaluated(value):
  r"""Whether a text is an expression of a rational number, \frac{\sqrt4}3."""
  if value.kind != 'text' or '=' in value.raw or r'\approx' in value.raw:
    return False
  return relations.read(value, named=False).sides[0].is_rational is not False


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
  plain = dict(decimals=0, raw='', is_final=False, is_family=False)
  if a._replace(**plain) == gold._replace(**plain):
    return True
  # A name that only one of them has, f(x) = or x =, is ignored; so is one that
  # both have.
  is_same_name = a.name and values.is_same_name(a.name, gold.name)
  has_two_names = a.name and gold.name and not is_same_name
  if has_two_names and not _may_be_one_product(a.name, gold.name):
    return False
  are_prose = spellings.is_prose(a.raw) and spellings.is_prose(gold.raw)
  if are_prose and not has_two_names:
    is_formula = left_sides.VARIABLE.fullmatch(gold.name) is not None
    return spellings.are_same_product(a.raw, gold.raw, is_formula)
  has_sides = gold.name or '=' in gold.raw, a.name or '=' in a.raw
  relation = relations.read(a, bool(has_sides[0]) and not is_same_name)
  gold_relation = relations.read(gold, bool(has_sides[1]) and not is_same_name)
  if relation.signs or gold_relation.signs:
    return relations.equal(relation, gold_relation)
  x, y = vectors.harmonized(*relation.sides, *gold_relation.sides)
  if a.is_family or gold.is_family:
    return family_values.equal(x, y)
  if units.is_percent(a.unit) != units.is_percent(gold.unit):
    shares = (x / 100, y) if units.is_percent(a.unit) else (x, y / 100)
    if numeric.equal(*shares):
      return True
    # A missing percent sign is accepted above 1.
    return y.is_number and not numeric.near(y, 0, 1) and numeric.equal(x, y)
  if values.may_be_rounded(gold):
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
