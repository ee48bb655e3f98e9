r"""Compares answers as sets of real numbers: inequalities in one variable,
intervals, unions. x > 3 equals (3, \infty)."""

import sympy

from r1jax.rewards.math import numeric, real_sets, relations, values
from r1jax.rewards.math.bounded_arithmetic import Unreadable
from r1jax.rewards.math.parser import Relation
from r1jax.rewards.math.values import LIST, SET, TUPLE

MAX_SET = 16  # entries of a set
INTERVALS = '()', '[]', '(]', '[)'
LEAVES = 'number', 'text'
REAL_SETS = r'\cup', r'\cap', r'\setminus', 'and', 'or', *INTERVALS, LIST, SET


def equal(a, gold):
  """Whether both are the same set of real numbers, of the same variable."""
  if not any(map(_is_set_of_reals, (a, gold))):
    return False
  (name, numbers), (gold_name, golds) = map(real_set, (a, gold))
  if name and gold_name and name != gold_name:
    return False
  return real_sets.equal(numbers, golds)


def _is_set_of_reals(value):
  if value.kind in (r'\cup', r'\cap', r'\setminus') or _has_inequality(value):
    return True
  return value.kind == LIST and any(map(_is_set_of_reals, value.parts))


def _has_inequality(value):
  if value.kind in LEAVES:
    return values.INEQUALITY.search(value.raw) is not None
  return any(map(_has_inequality, value.parts))


def real_set(value):
  """(variable or '', set of real numbers)."""
  if value.text == 'no solution':
    return value.name, []
  if value.kind in LEAVES:
    variable, numbers = real_sets.solve(relations.read(value, named=False))
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
  if value.kind in (SET, LIST, TUPLE):
    for part in value.parts:  # Points in a list are not intervals.
      if not (part.name or _is_set_of_reals(part)):
        raise Unreadable('not a set of real numbers')
  if value.kind == SET:
    raise Unreadable('a set of sets')
  return _combined(value)


def _combined(value):
  sets = [real_set(part) for part in value.parts[:MAX_SET]]
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
  relation = relations.read(value)
  if relation.signs:
    raise Unreadable('the end of an interval is not a number')
  return relation.sides[0]


def equals_interval(leaf, interval):
  """Whether a leaf, a < x < b with other variables in a and b, is an inequality
  with the same solutions as the interval."""
  solution = _solve(leaf)
  if solution is None or len(interval.parts) != 2:
    return False
  variable, brackets, ends = solution
  if brackets != interval.kind or interval.name not in ('', str(variable)):
    return False
  bounds = [relations.read(part) for part in interval.parts]
  if any(bound.signs for bound in bounds):
    return False
  return all(map(numeric.equal, ends, [bound.sides[0] for bound in bounds]))


def _solve(leaf):
  """(variable, brackets, ends): the interval of an inequality in one variable.
  None for any other value."""
  sides, signs = relations.read(leaf) if leaf.kind in LEAVES else ([], [])
  if not signs or not set(signs) <= set(relations.FLIPPED):
    return None
  if len(sides) == 2 and sides[1].is_Symbol:
    sides, signs = sides[::-1], [relations.FLIPPED[signs[0]]]
  if len(sides) == 2:
    infinity = -sympy.oo if signs[0][0] == '<' else sympy.oo
    sides, signs = [infinity, *sides], [signs[0][0], *signs]
  sides, signs = relations.with_first_sign('<', Relation(sides, signs))
  if len(sides) != 3 or not sides[1].is_Symbol or signs[1][0] != '<':
    return None
  opening = '[' if '=' in signs[0] else '('
  closing = ']' if '=' in signs[1] else ')'
  return sides[1], opening + closing, [sides[0], sides[2]]
