r"""Vectors as SymPy expressions: 2\hat i + 3\hat j is (2,3)."""

import sympy

from r1jax.rewards.math.bounded_arithmetic import Unreadable

# The unit vectors that the parser returns, and what else i, j and k may be.
UNITS = {name: sympy.Symbol(f'unit {name}') for name in 'ijk'}
PLAIN = {
  UNITS['i']: sympy.I,
  UNITS['j']: sympy.Symbol('j'),
  UNITS['k']: sympy.Symbol('k'),
}


def of_points(letters: str) -> sympy.Expr:
  r"""\overrightarrow{AB}, which is -\overrightarrow{BA}."""
  if len(letters) != 2 or not letters.isupper():
    raise Unreadable('a vector of other than two points')
  first, second = sorted(letters)
  if first == second:
    return sympy.Integer(0)
  vector = sympy.Symbol(f'vector {first}{second}')
  return vector if letters[0] == first else -vector


def harmonized(a: sympy.Expr, b: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
  """Both expressions without unit vectors, if only one has them."""
  units = set(UNITS.values())
  if bool(a.free_symbols & units) != bool(b.free_symbols & units):
    return a.xreplace(PLAIN), b.xreplace(PLAIN)
  return a, b


def components(vector: sympy.Expr, count: int) -> list[sympy.Expr] | None:
  """The components of a sum of two or three unit vectors; None for others."""
  rest, found = sympy.expand(vector), []
  for unit in UNITS.values():
    found.append(rest.coeff(unit, 1))
  for unit, component in zip(UNITS.values(), found):
    rest = sympy.expand(rest - component * unit)
  units = set(UNITS.values())
  is_linear = rest == 0 and not any(x.free_symbols & units for x in found)
  if not is_linear or any(x != 0 for x in found[count:]):
    return None
  return found[:count]
