r"""Compares SymPy expressions numerically at several points, with more digits
than their numbers have.

This is not a proof, but in practice unequal expressions differ at the first
points. \sqrt{x^2} is not x; \sqrt x\sqrt y is \sqrt{xy}, as no point has two
negative variables.
"""

import sympy
from sympy import Expr

from r1jax.rewards.math.bounded_arithmetic import LOG_OF_BASE

DIGITS = 30  # of the first comparison
MAX_HEIGHT = 800  # digits of all numbers in two expressions
POINTS = (
  ('0.7390851332', '1.3717421', '2.6651441', '0.5671432904'),
  ('-2.2360679', '0.4142135', '1.7724538', '3.3598856662'),
  ('1.6180339', '-2.5029078', '0.2614972', '1.4513692349'),
  ('37.912345', '5.3173169', '-11.8314159', '0.0271828'),
  ('-19.4142857', '208.3301', '3.3166247', '41.2310562'),
  ('523.7123', '0.0831415', '17.3205080', '-6.7823299'),
  ('-731.0823', '14.7648231', '0.9159655', '2.2049019'),
)
TINY = sympy.Float('1e-9')  # a value this small has no usable ratio
SPECIAL = sympy.oo, -sympy.oo, sympy.zoo, sympy.nan


def equal(a: Expr, b: Expr) -> bool:
  """Whether a and b have the same value wherever they are defined."""
  if a == b:
    return not a.has(sympy.zoo, sympy.nan)
  if a.is_Rational and b.is_Rational or a.has(*SPECIAL) or b.has(*SPECIAL):
    return False
  if LOG_OF_BASE in a.free_symbols | b.free_symbols:
    return any(equal(x, y) for x, y in _with_log_bases(a, b))
  if not _agree(a, b, DIGITS):
    return False
  height = _height(a) + _height(b)
  return height <= MAX_HEIGHT and _agree(a, b, 3 * height + 100)


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
  height = _height(a) + _height(b)
  if height > MAX_HEIGHT or not _have_one_ratio(a, b, any_sign, DIGITS):
    return False
  return _have_one_ratio(a, b, any_sign, 3 * height + 100)


def _with_log_bases(a, b):
  """Both expressions with logarithms of base e, then of base 10."""
  for value in (sympy.Integer(1), sympy.log(10)):
    yield a.xreplace({LOG_OF_BASE: value}), b.xreplace({LOG_OF_BASE: value})


def _have_one_ratio(a, b, any_sign, digits):
  """Whether a / b is the same at all points, to digits - 10 digits."""
  ratios = []
  for x, y in _value_pairs(a, b, digits):
    if x is None or y is None or (abs(x) <= TINY) != (abs(y) <= TINY):
      return False
    if abs(x) > TINY:
      ratios.append(x / y)
  if len(ratios) < 2 or not ratios[0].is_real:
    return False
  error = sympy.Float(10, digits) ** (10 - digits) * abs(ratios[0])
  same = all(abs(ratio - ratios[0]) <= error for ratio in ratios)
  return same and (any_sign or ratios[0] > 0)


def _agree(a, b, digits):
  """Whether a and b are equal to digits - 10 digits at all points where one of
  them is defined, of which there must be one."""
  error = sympy.Float(10, digits) ** (10 - digits)
  pairs = 0
  for x, y in _value_pairs(a, b, digits):
    if x is None or y is None or abs(x - y) > error * max(1, abs(x), abs(y)):
      return False
    pairs += 1
  return pairs > 0


def _value_pairs(a, b, digits):
  """The values of a and b at the POINTS where one of them is defined."""
  symbols = sorted(a.free_symbols | b.free_symbols, key=str)
  for point in POINTS if symbols else POINTS[:1]:
    values = {}
    for n, symbol in enumerate(symbols):
      # A fifth symbol must not get the number of the first.
      values[symbol] = sympy.Rational(point[n % 4]) + n // 4
    x, y = _value(a, digits, values), _value(b, digits, values)
    if x is not None or y is not None:
      yield x, y


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
