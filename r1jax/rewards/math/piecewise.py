r"""Compares functions of one variable that are given by cases, or by a formula
such as |x|, branch by branch on the sets where both branches hold."""

import sympy

from r1jax.rewards.math import numeric, real_sets, relations, solution_sets
from r1jax.rewards.math.bounded_arithmetic import Unreadable

MAX_BRANCHES = 6
PARAMETER = sympy.Symbol('parameter of an interval')


def equal(a, gold):
  """Whether both have the same domain and the same values on it."""
  names = {name for name in (_variable(a), _variable(gold)) if name}
  if len(names) != 1:
    return False
  variable = sympy.Symbol(names.pop())
  branches, golds = _branches(a), _branches(gold)
  if not real_sets.equal(_domain(branches), _domain(golds)):
    return False
  for expression, numbers in branches:
    for other, others in golds:
      for piece in real_sets.intersection(numbers, others):
        if not _agree(expression, other, variable, piece):
          return False
  return True


def _variable(value):
  """The variable of the conditions; '' of a formula."""
  if value.kind != 'cases':
    return ''
  names = set()
  for part in value.parts:
    if not _is_otherwise(part):
      names.add(solution_sets.real_set(part.parts[1])[0])
  if len(names) != 1 or '' in names:
    raise Unreadable('conditions on other than one variable')
  return names.pop()


def _branches(value):
  """[(expression, set of real numbers where it holds)]."""
  if value.kind != 'cases':
    return [(_expression(value), real_sets.REALS)]
  if len(value.parts) > MAX_BRANCHES:
    raise Unreadable('too many cases')
  found, covered = [], []
  for part in value.parts:
    numbers = real_sets.REALS
    if not _is_otherwise(part):
      numbers = solution_sets.real_set(part.parts[1])[1]
    elif part is not value.parts[-1]:
      raise Unreadable('a case after the one for all others')
    numbers = real_sets.difference(numbers, covered)
    found.append((_expression(part.parts[0]), numbers))
    covered = real_sets.union(covered, numbers)
  return found


def _is_otherwise(part):
  return part.parts[1].kind == 'text' and not part.parts[1].raw


def _expression(value):
  relation = relations.read(value, named=False)
  if relation.signs or value.unit:
    raise Unreadable('a case that is no expression')
  return relation.sides[0]


def _domain(branches):
  numbers: list = []
  for _, own in branches:
    numbers = real_sets.union(numbers, own)
  return numbers


def _agree(a, b, variable, piece):
  """Whether two expressions are equal on an interval."""
  low, _, high, _ = piece
  square = PARAMETER**2
  if low == high:
    value = low
  elif low == -sympy.oo:
    value = variable if high == sympy.oo else high - square
  elif high == sympy.oo:
    value = low + square
  else:
    value = low + (high - low) * square / (1 + square)
  return numeric.equal(a.subs(variable, value), b.subs(variable, value))
