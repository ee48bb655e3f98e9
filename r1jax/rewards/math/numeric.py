r"""Compares SymPy expressions numerically at random points, with more digits
than their numbers have.

The points come from a generator that the pair of expressions seeds, in several
ranges and signs; on both sides of the zeros of the arguments of |x| and of
other functions with cases. \sqrt{x^2} is not x; \sqrt x\sqrt y is \sqrt{xy}, as
points where only several negative variables differ are used for expressions
without roots and logarithms alone. Polynomials are expanded.
"""

import hashlib
import random

import sympy
from sympy import Expr

from r1jax.rewards.math.bounded_arithmetic import LOG_OF_BASE

DIGITS = 30  # of the first comparison
MAX_HEIGHT = 800  # digits of all numbers in two expressions
# log10 of the sizes of variables.
RANGES = (-0.5, 0.5), (0, 1), (-2, 0), (0, 0.3), (1, 2), (2, 4), (-4, -2)
NEAR = 2  # points on each side of a zero of an argument
MAX_ZEROS = 8
EXACT_POINTS = 3  # that are compared with all digits
MAX_DEGREE = 12
MAX_SYMBOLS = 6
TINY = sympy.Float('1e-9')  # a value this small has no usable ratio
SPECIAL = sympy.oo, -sympy.oo, sympy.zoo, sympy.nan
PIECEWISE = sympy.Abs, sympy.floor, sympy.ceiling, sympy.sign


def equal(a: Expr, b: Expr) -> bool:
  """Whether a and b have the same value wherever they are defined."""
  if a == b:
    return not a.has(sympy.zoo, sympy.nan)
  if a.is_Rational and b.is_Rational or a.has(*SPECIAL) or b.has(*SPECIAL):
    return False
  if LOG_OF_BASE in a.free_symbols | b.free_symbols:
    return any(equal(x, y) for x, y in _with_log_bases(a, b))
  points = _points(a, b)
  if not _agree(a, b, DIGITS, points):
    return False
  height = _height(a) + _height(b)
  if height > MAX_HEIGHT:
    return False
  digits = 3 * height + 100
  if not _agree(a, b, digits, points[:EXACT_POINTS]):
    return False
  return _is_identity(a, b) is not False


def near(a: Expr, number: Expr, error: Expr) -> bool:
  """Whether a is a real constant with |a - number| <= error."""
  if a.free_symbols or a.has(*SPECIAL):
    return False
  value = _value(a, DIGITS, {})
  error += sympy.Rational(1, 10**20)  # the last digits may be wrong
  return value is not None and value.is_real and abs(value - number) <= error


def proportional(a: Expr, b: Expr, any_sign: bool) -> bool:
  """Whether a = c b for a real c, which must be positive unless any_sign."""
  if LOG_OF_BASE in a.free_symbols | b.free_symbols:
    return any(proportional(x, y, any_sign) for x, y in _with_log_bases(a, b))
  if a.free_symbols != b.free_symbols or not a.free_symbols:
    return False
  height, points = _height(a) + _height(b), _points(a, b)
  if height > MAX_HEIGHT:
    return False
  if not _have_one_ratio(a, b, any_sign, DIGITS, points):
    return False
  return _have_one_ratio(a, b, any_sign, 3 * height + 100, points[:4])


def _with_log_bases(a, b):
  """Both expressions with logarithms of base e, then of base 10."""
  for value in (sympy.Integer(1), sympy.log(10)):
    yield a.xreplace({LOG_OF_BASE: value}), b.xreplace({LOG_OF_BASE: value})


def _have_one_ratio(a, b, any_sign, digits, points):
  """Whether a / b is the same at all points, to digits - 10 digits."""
  ratios = []
  for x, y in _value_pairs(a, b, digits, points):
    if x is None or y is None or (abs(x) <= TINY) != (abs(y) <= TINY):
      return False
    if abs(x) > TINY:
      ratios.append(x / y)
  if len(ratios) < 2 or not ratios[0].is_real:
    return False
  error = sympy.Float(10, digits) ** (10 - digits) * abs(ratios[0])
  same = all(abs(ratio - ratios[0]) <= error for ratio in ratios)
  return same and (any_sign or ratios[0] > 0)


def _agree(a, b, digits, points):
  """Whether a and b are equal to digits - 10 digits at all points where one of
  them is defined, of which there must be one."""
  error = sympy.Float(10, digits) ** (10 - digits)
  pairs = 0
  for x, y in _value_pairs(a, b, digits, points):
    if x is None or y is None or abs(x - y) > error * max(1, abs(x), abs(y)):
      return False
    pairs += 1
  return pairs > 0


def _value_pairs(a, b, digits, points):
  """The values of a and b at the points where one of them is defined."""
  for point in points:
    x, y = _value(a, digits, point), _value(b, digits, point)
    if x is not None or y is not None:
      yield x, y


def _points(a, b):
  """Values of the symbols of both: [{symbol: number}]."""
  symbols = sorted(a.free_symbols | b.free_symbols, key=str)
  if not symbols:
    return [{}]
  seed = hashlib.blake2b(f'{sympy.srepr(a)} {sympy.srepr(b)}'.encode())
  generator = random.Random(seed.digest())
  is_entire = not _has_branches(a) and not _has_branches(b)
  largest = max(map(_largest, (a, b)))
  ranges = [*RANGES, (largest - 1, largest + 1)]
  points = []
  for n in range(2 * len(ranges)):
    low, high = ranges[n % len(ranges)]
    signs = _signs(generator, len(symbols), n, is_entire)
    sizes = [10 ** generator.uniform(low, high) for _ in symbols]
    numbers = [sympy.Rational(f'{x:.12g}') for x in sizes]
    points.append({s: c * x for s, c, x in zip(symbols, signs, numbers)})
  return points + _points_near_zeros(a, b, symbols, generator)


def _signs(generator, count, n, is_entire):
  """The signs of a point: the first points are positive; later ones have a
  negative variable, or any number of them."""
  if count == 1:
    return [-1 if n % 2 else 1]
  if n < 2:
    return [1] * count
  if is_entire and n % 2:
    return [generator.choice((-1, 1)) for _ in range(count)]
  signs = [1] * count
  signs[generator.randrange(count)] = -1
  return signs


def _points_near_zeros(a, b, symbols, generator):
  """Points on both sides of the zeros of arguments that are linear in a
  variable, of functions with cases."""
  arguments = []
  for function in sorted((a + b).atoms(*PIECEWISE), key=str):
    arguments.append(function.args[0])
  for power in sorted((a + b).atoms(sympy.Pow), key=str):
    if power.exp.is_Rational and not power.exp.is_Integer:
      arguments.append(power.base.base if power.base.is_Pow else power.base)
  points = []
  for argument in arguments[:MAX_ZEROS]:
    for symbol in sorted(argument.free_symbols, key=str):
      slope = argument.diff(symbol)
      if slope.has(symbol) or slope == 0:
        continue
      point = {s: _random(generator, 0, 1) for s in symbols}
      rest = {s: x for s, x in point.items() if s != symbol}
      zero = (-argument.subs(symbol, 0) / slope).subs(rest)
      if not zero.is_Rational:
        zero = sympy.Rational(str(sympy.N(zero, 15))) if zero.is_real else None
      if zero is None:
        continue
      for k in range(NEAR):
        size = _random(generator, -1, 3) if k else _random(generator, -1, 0)
        points += [rest | {symbol: zero + size}, rest | {symbol: zero - size}]
  return points


def _random(generator, low, high):
  return sympy.Rational(f'{10 ** generator.uniform(low, high):.12g}')


def _largest(expression):
  """log10 of the largest number in an expression, 0 to 100."""
  numbers = [abs(x) for x in expression.atoms(sympy.Rational)]
  digits = [_height(x) for x in numbers if x > 1]
  return min(max(digits, default=0), 100)


def _has_branches(expression):
  """Whether it has roots or logarithms of its variables."""
  if expression.has(sympy.log):
    return True
  powers = expression.atoms(sympy.Pow)
  return any(not x.exp.is_Integer and x.base.free_symbols for x in powers)


def _is_identity(a, b):
  """Whether a - b is 0 by algebra, for rational functions of low degree with
  rational coefficients; else None."""
  symbols = sorted(a.free_symbols | b.free_symbols, key=str)
  if not 0 < len(symbols) <= MAX_SYMBOLS or _height(a) + _height(b) > 200:
    return None
  difference = a - b
  is_small = difference.count_ops() <= 80 and _degree(difference) <= MAX_DEGREE
  if not is_small or not difference.is_rational_function(*symbols):
    return None
  numerator, _ = sympy.fraction(sympy.together(difference))
  try:
    return sympy.Poly(numerator, *symbols, domain='QQ').is_zero
  except sympy.PolynomialError:  # a coefficient is not rational
    return None
  except sympy.polys.polyerrors.CoercionFailed:
    return None


def _degree(expression):
  """An upper bound of the total degree of a rational function's parts."""
  if expression.is_Symbol:
    return 1
  if expression.is_Pow and expression.exp.is_Integer:
    return _degree(expression.base) * abs(int(expression.exp))
  degrees = [_degree(x) for x in expression.args]
  if not degrees:
    return 0
  return sum(degrees) if expression.is_Mul else max(degrees)


def _value(expression, digits, values):
  """The value with these values of symbols; None where it is undefined."""
  # xreplace would let SymPy factor the numbers under roots.
  value = sympy.N(expression, digits, subs=values, maxn=4 * digits + 100)
  return value if value.is_number and value.is_finite else None


def _height(expression):
  """The number of digits of all numbers, with powers of numbers expanded."""
  if expression.is_Rational:
    bits = abs(expression.p).bit_length() + expression.q.bit_length()
    return 1 + bits * 3 // 10
  if expression.is_Pow and expression.exp.is_Integer:
    times = abs(int(expression.exp))
    if expression.base.is_Symbol:
      return 1 + times.bit_length()
    return _height(expression.base) * min(times, MAX_HEIGHT)
  return 1 + sum(map(_height, expression.args))
