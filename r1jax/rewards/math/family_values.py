"""Compares families a + b k of values, for all integers k."""

import sympy

from r1jax.rewards.math import numeric

K = sympy.Symbol('k')
OTHERS = sympy.Symbol('m'), sympy.Symbol('n')


def equal(a: sympy.Expr, gold: sympy.Expr) -> bool:
  """Whether both are the same set of values. A family may have another letter
  than k if it does not say that it is an integer."""
  a, gold = _with_k(a), _with_k(gold)
  if numeric.equal(a, gold):
    return True
  step, gold_step = sympy.diff(a, K), sympy.diff(gold, K)
  if K in step.free_symbols | gold_step.free_symbols or step == 0:
    return False
  if numeric.equal(-step, gold_step):
    a = a.subs(K, -K)
  elif not numeric.equal(step, gold_step):
    return False
  steps = sympy.cancel((a - gold).subs(K, 0) / gold_step)
  return bool(steps.is_Integer)


def _with_k(family):
  found = [symbol for symbol in OTHERS if symbol in family.free_symbols]
  if len(found) != 1 or K in family.free_symbols:
    return family
  return family.xreplace({found[0]: K})
