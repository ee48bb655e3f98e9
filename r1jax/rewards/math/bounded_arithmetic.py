"""Operations on SymPy expressions, which raise Unreadable where the result is
undefined or has too large numbers."""

import sympy
from sympy import Expr

MAX_BITS = 1 << 15  # of the power of a number
MAX_EXPONENT = 10_000  # of a base with variables
MAX_TOWER = 3  # exponents in an exponent
MAX_ROOT = 100
MAX_FACTORIAL = 2500

NAMES = 'sin cos tan cot sec csc asin acos atan sinh cosh tanh exp log'.split()
FUNCTIONS = {name: getattr(sympy, name) for name in NAMES}
FUNCTIONS |= dict(arcsin=sympy.asin, arccos=sympy.acos, arctan=sympy.atan)
FUNCTIONS |= dict(ln=sympy.log, lg=sympy.log)
INVERSES = dict(sin=sympy.asin, cos=sympy.acos, tan=sympy.atan)
# ln of the unknown base of a logarithm that is written without a base.
LOG_OF_BASE = sympy.Symbol('log of the base')


class Unreadable(ValueError):
  """The text is not a supported expression, or too large."""


def divide(a: Expr, b: Expr) -> Expr:
  if b.is_zero:
    raise Unreadable('division by zero')
  return a / b


def power(base: Expr, exponent: Expr) -> Expr:
  if base.is_zero and not exponent.is_positive:
    raise Unreadable('undefined power of zero')
  is_large = False
  if exponent.is_Rational:
    size, limit = abs(exponent.p), MAX_EXPONENT
    if base.is_number:
      size, limit = size * max(2, _bits(base)), MAX_BITS
    is_large = size > limit or exponent.q > MAX_ROOT
  elif exponent.is_number:
    is_large = _bits(exponent) > 64 or abs(sympy.N(exponent, 5)) > MAX_ROOT
  if is_large or _tower(exponent) >= MAX_TOWER:
    raise Unreadable('a power is too large')
  return base**exponent


def root(value: Expr, degree: Expr) -> Expr:
  """The root of that degree; the real one of a negative number if it exists."""
  inverse = divide(sympy.Integer(1), degree)
  if degree.is_Integer and degree % 2 and value.is_negative:
    return -power(-value, inverse)
  return power(value, inverse)


def apply(name: str, value: Expr, base: Expr | None) -> Expr:
  """FUNCTIONS[name] of the value; a logarithm may have a base."""
  if name in ('exp', 'sinh', 'cosh') and _tower(value) >= MAX_TOWER:
    raise Unreadable('a power is too large')
  result = FUNCTIONS[name](value)
  if base is not None:
    return divide(result, sympy.log(base))
  if name == 'lg':
    return result / sympy.log(10)
  return result / LOG_OF_BASE if name == 'log' else result


def factorial(value: Expr, marks: int) -> Expr:
  """n!, or n!! with two marks; n must be small, and a number for n!!."""
  if not _is_small(value) and (value.is_number or marks == 2):
    raise Unreadable('a factorial of anything but a small integer')
  return sympy.factorial(value) if marks == 1 else sympy.factorial2(value)


def binomial(n: Expr, k: Expr) -> Expr:
  for x in (n, k):
    if x.is_number and not _is_small(x):
      raise Unreadable('a binomial of anything but small integers')
  if not n.is_number and k.is_number and k > MAX_ROOT:
    raise Unreadable('a binomial with too many factors')
  return sympy.binomial(n, k)


def repeating_decimal(whole: str, digits: str, period: str) -> sympy.Rational:
  """whole.digits(period)(period)... as a fraction."""
  if not (period.isdigit() and period.isascii()):
    raise Unreadable('a period must consist of digits')
  n, m = len(digits), len(period)
  tail = sympy.Rational(int(period), (10**m - 1) * 10**n)
  return sympy.Rational(f'{whole or 0}.{digits or 0}') + tail


def find_period(digits: str) -> tuple[str, str]:
  """(digits, period) of the decimals before '...': the period is the shortest
  suffix that occurs twice, or a digit that occurs three times."""
  for m in range(1, len(digits) // 2 + 1):
    period = digits[-m:]
    if digits.endswith(period * (3 if m == 1 else 2)):
      return digits[:-m], period
  raise Unreadable('no period before the dots')


def _tower(value):
  """The number of exponents in exponents of an expression."""
  if value.is_Atom:
    return 0
  if isinstance(value, sympy.exp):
    return 1 + _tower(value.args[0])
  if value.is_Pow and not value.exp.is_Rational:
    return max(1 + _tower(value.exp), _tower(value.base))
  return max(map(_tower, value.args))


def _bits(value):
  """An upper bound of the bits of the numbers in an expression."""
  if value.is_Rational:
    return max(abs(value.p).bit_length(), value.q.bit_length())
  return 0 if value.is_Atom else sum(map(_bits, value.args)) + 1


def _is_small(value):
  return value.is_Integer and 0 <= value <= MAX_FACTORIAL
