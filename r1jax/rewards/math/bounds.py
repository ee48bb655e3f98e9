"""Operations on sympy's numbers that refuse to make large ones."""

import sympy

MAX_BITS = 1 << 15  # of a number that a power or a factorial may make
MAX_EXPONENT = 10_000  # of what is no number
MAX_ROOT = 100
MAX_FACTORIAL = 2500

FUNCTIONS = dict(
  sin=sympy.sin,
  cos=sympy.cos,
  tan=sympy.tan,
  cot=sympy.cot,
  sec=sympy.sec,
  csc=sympy.csc,
  arcsin=sympy.asin,
  arccos=sympy.acos,
  arctan=sympy.atan,
  asin=sympy.asin,
  acos=sympy.acos,
  atan=sympy.atan,
  sinh=sympy.sinh,
  cosh=sympy.cosh,
  tanh=sympy.tanh,
  ln=sympy.log,
  log=sympy.log,
  lg=sympy.log,
  exp=sympy.exp,
)
INVERSE = dict(sin=sympy.asin, cos=sympy.acos, tan=sympy.atan)
# What the logarithm of a base that is not said must be divided by.
LOG_OF_BASE = sympy.Symbol('log of the base')


class Unreadable(ValueError):
  """The text is no expression that is understood, or too large a one."""


def divided(a, b):
  """a / b, where b is not 0."""
  if b.is_zero:
    raise Unreadable('a division by zero')
  return a / b


def _bits(value):
  if value.is_Rational:
    return max(abs(value.p).bit_length(), value.q.bit_length())
  return 0 if value.is_Atom else sum(map(_bits, value.args)) + 1


def power(base, exponent):
  """base ** exponent where it stays small."""
  if base.is_zero and not exponent.is_positive:
    raise Unreadable('a power of zero that has no value')
  if exponent.is_Rational:
    size = abs(exponent.p) * max(2, _bits(base)) if base.is_number else 0
    most = MAX_BITS if base.is_number else MAX_EXPONENT
    if size > MAX_BITS or abs(exponent.p) > most or exponent.q > MAX_ROOT:
      raise Unreadable('a power is too large')
  elif exponent.is_number:
    if _bits(exponent) > 64 or abs(sympy.N(exponent, 5)) > MAX_ROOT:
      raise Unreadable('a power is too large')
  return base**exponent


def root(value, degree):
  """The root, the real one where a number has one."""
  inverse = divided(sympy.Integer(1), degree)
  if degree.is_Integer and degree % 2 and value.is_negative:
    return -power(-value, inverse)
  return power(value, inverse)


def function(name, value, base):
  """A function's value; base is that of a logarithm, or None."""
  result = FUNCTIONS[name](value)
  if base is not None:
    return divided(result, sympy.log(base))
  if name in ('log', 'lg'):
    return result / (sympy.log(10) if name == 'lg' else LOG_OF_BASE)
  return result


def factorial(value, marks):
  """n! or n!! of a small n; of what is no number as it stands."""
  if value.is_number and not (value.is_Integer and 0 <= value <= MAX_FACTORIAL):
    raise Unreadable('a factorial of what is no small number')
  if marks == 1:
    return sympy.factorial(value)
  if not value.is_number:
    raise Unreadable('a double factorial of what is no number')
  return sympy.factorial2(value)


def binomial(n, k):
  """n over k, of small numbers if of numbers."""
  for x in (n, k):
    if x.is_number and not (x.is_Integer and 0 <= x <= MAX_FACTORIAL):
      raise Unreadable('a binomial of what is no small number')
  if not n.is_number and k.is_number and k > MAX_ROOT:
    raise Unreadable('a binomial that is too long')
  return sympy.binomial(n, k)


def repeating(whole, digits, period):
  """whole.digits(period)(period)… as a fraction."""
  if not (period.isdigit() and period.isascii()):
    raise Unreadable('a period must be digits')
  n, m = len(digits), len(period)
  tail = sympy.Rational(int(period), (10**m - 1) * 10**n)
  return sympy.Rational(f'{whole or 0}.{digits or 0}') + tail


def continued(digits):
  """(digits, period) of the digits before three dots: the shortest that is there
  twice, one digit three times."""
  for m in range(1, len(digits) // 2 + 1):
    period = digits[-m:]
    if digits.endswith(period * (3 if m == 1 else 2)):
      return digits[:-m], period
  raise Unreadable('what the dots stand for is not said')
