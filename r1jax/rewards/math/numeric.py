r"""Whether two of sympy's expressions have the same value everywhere.

No proof is sought: both are computed to far more digits than their own numbers
could make them differ by, at points of either sign and of many sizes for each
variable. What is no identity differs at the first of them; \sqrt{x^2} is not x
and |x-5| not 5-x, but \sqrt x\sqrt y is \sqrt{xy}, since no two variables are
negative at once.
"""

import itertools

import sympy

from r1jax.rewards.math.bounds import LOG_OF_BASE

DIGITS = 30  # of the first look
HEIGHT = 800  # digits of all numbers in an expression that is looked at again
POINTS = (
  ('0.7390851332', '1.3717421', '2.6651441', '0.5671432904'),
  ('-2.2360679', '0.4142135', '1.7724538', '3.3598856662'),
  ('1.6180339', '-2.5029078', '0.2614972', '1.4513692349'),
  ('37.912345', '5.3173169', '-11.8314159', '0.0271828'),
  ('-19.4142857', '208.3301', '3.3166247', '41.2310562'),
  ('523.7123', '0.0831415', '17.3205080', '-6.7823299'),
  ('-731.0823', '14.7648231', '0.9159655', '2.2049019'),
)
TINY = sympy.Float('1e-9')  # nothing that is said of a ratio
SPECIAL = sympy.oo, -sympy.oo, sympy.zoo, sympy.nan


def equal(a, g):
  """Whether two expressions have the same value wherever they have one."""
  if a == g:
    return not a.has(sympy.zoo, sympy.nan)
  if a.is_Rational and g.is_Rational or a.has(*SPECIAL) or g.has(*SPECIAL):
    return False
  if LOG_OF_BASE in a.free_symbols | g.free_symbols:
    return any(equal(*pair) for pair in _bases(a, g))
  if not _agree(a, g, DIGITS):
    return False
  height = _height(a) + _height(g)
  return height <= HEIGHT and _agree(a, g, 3 * height + 100)


def near(a, g, error):
  """Whether a is one real number within `error` of the number g."""
  if a.free_symbols or a.has(*SPECIAL):
    return False
  (value,) = _values(a, DIGITS, [])
  # The last of so many digits may be wrong.
  slack = sympy.Rational(1, 10**20)
  return value is not None and value.is_real and abs(value - g) <= error + slack


def proportional(a, g, any_sign):
  """Whether a is g times a real number other than 0, a positive one if not
  any_sign."""
  if LOG_OF_BASE in a.free_symbols | g.free_symbols:
    return any(proportional(*pair, any_sign) for pair in _bases(a, g))
  if a.free_symbols != g.free_symbols or not a.free_symbols:
    return False
  height = _height(a) + _height(g)
  return height <= HEIGHT and all(
    _one_ratio(a, g, any_sign, digits) for digits in (DIGITS, 3 * height + 100)
  )


def _bases(a, g):
  """The two for either base that a logarithm has if it does not say it: the same
  on both sides."""
  for value in (sympy.Integer(1), sympy.log(10)):
    yield a.xreplace({LOG_OF_BASE: value}), g.xreplace({LOG_OF_BASE: value})


def _one_ratio(a, g, any_sign, digits):
  """Whether the values have one ratio to nearly so many digits."""
  ratios, symbols = [], sorted(a.free_symbols, key=str)
  for x, y in zip(_values(a, digits, symbols), _values(g, digits, symbols)):
    if x is None and y is None:
      continue
    if x is None or y is None:
      return False
    sizes = abs(x) > TINY, abs(y) > TINY
    if not any(sizes):
      continue
    if not all(sizes):
      return False
    ratios.append(x / y)
  if len(ratios) < 2 or not ratios[0].is_real:
    return False
  error = sympy.Float(10, digits) ** (10 - digits) * abs(ratios[0])
  return (any_sign or ratios[0] > 0) and all(
    abs(ratio - ratios[0]) <= error for ratio in ratios
  )


def _agree(a, g, digits):
  """Whether the values agree to nearly so many digits wherever they exist, and
  exist somewhere."""
  seen = 0
  symbols = sorted(a.free_symbols | g.free_symbols, key=str)
  error = sympy.Float(10, digits) ** (10 - digits)
  for x, y in zip(_values(a, digits, symbols), _values(g, digits, symbols)):
    if x is None and y is None:
      continue
    if x is None or y is None or abs(x - y) > error * max(1, abs(x), abs(y)):
      return False
    seen += 1
  return seen > 0


def _values(expression, digits, symbols):
  """The expression's numbers at POINTS, None where it has none."""
  for point in POINTS if symbols else POINTS[:1]:
    numbers = map(sympy.Rational, itertools.cycle(point))
    # Symbols beyond a point's numbers must not get equal ones.
    at = {
      s: x + n // len(point) for n, (s, x) in enumerate(zip(symbols, numbers))
    }
    # xreplace would let sympy factor the numbers that it finds under roots.
    value = sympy.N(expression, digits, subs=at, maxn=4 * digits + 100)
    yield value if value.is_number and value.is_finite else None


def _height(expression):
  """The digits of all its numbers, powers of numbers counted out."""
  if expression.is_Rational:
    bits = abs(expression.p).bit_length() + expression.q.bit_length()
    return 1 + bits * 3 // 10
  if expression.is_Pow and expression.exp.is_Integer:
    times = abs(int(expression.exp))
    if expression.base.is_Symbol:
      return 1 + times.bit_length()
    return _height(expression.base) * min(times, HEIGHT)
  return 1 + sum(map(_height, expression.args))
