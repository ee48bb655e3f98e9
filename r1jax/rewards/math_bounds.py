"""Operations on sympy's numbers that refuse to make large ones."""

import sympy

MAX_BITS = 4000  # of a number that a power or a factorial may make
MAX_EXPONENT = 60  # of what is no number
MAX_FACTORIAL = 300


class Unreadable(ValueError):
  """The text is no expression that is understood, or too large a one."""


def divided(a, b):
  """a / b, where b is not 0."""
  if b == 0:
    raise Unreadable('a division by zero')
  return a / b


def _bits(value):
  if value.is_Rational:
    return max(abs(value.p).bit_length(), value.q.bit_length())
  return 0 if value.is_Atom else sum(map(_bits, value.args)) + 1


def power(base, exponent):
  """base ** exponent where it stays small."""
  if exponent.is_Rational and not exponent.is_zero:
    if base.is_zero and exponent < 0:
      raise Unreadable('a division by zero')
    size = abs(exponent.p) * max(2, _bits(base)) if base.is_number else 0
    most = MAX_BITS if base.is_number else MAX_EXPONENT
    if size > MAX_BITS or abs(exponent.p) > most or exponent.q > MAX_EXPONENT:
      raise Unreadable('a power is too large')
  elif exponent.is_number and not exponent.is_zero:
    if _bits(exponent) > 64 or abs(sympy.N(exponent, 5)) > MAX_EXPONENT:
      raise Unreadable('a power is too large')
  return base**exponent


def factorial(value):
  """n! of a small n."""
  if not value.is_Integer or not 0 <= value <= MAX_FACTORIAL:
    raise Unreadable('a factorial of what is no small number')
  return sympy.factorial(value)


def binomial(n, k):
  """n over k of small ones."""
  if not (n.is_Integer and k.is_Integer and 0 <= k <= n <= MAX_FACTORIAL):
    raise Unreadable('a binomial of what are no small numbers')
  return sympy.binomial(n, k)


def repeating(whole, digits, period):
  """whole.digits(period)(period)… as a fraction."""
  if not period.isdigit():
    raise Unreadable('a period must be digits')
  n, m = len(digits), len(period)
  tail = sympy.Rational(int(period), (10**m - 1) * 10**n)
  return sympy.Rational(f'{whole or 0}.{digits or 0}') + tail
