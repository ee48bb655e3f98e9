r"""An exact value with a rounded one after it: \sqrt2 (\approx 1.414)."""

import re
from fractions import Fraction

from r1jax.rewards.math.values import Value

MAX_RELATIVE_ERROR = Fraction(1, 100)
MIN_DIGITS = 2  # of a rounded number, which then may differ by half a unit
ABOUT = r'(?:\\approx|(?:approximately|approx\.?|about|roughly)(?![a-z]))'
NUMBER = r'([$€£¥]? ?-?\d[\d.,]*(?: ?[^\d()\\=]{0,20})?)'
IN_WORDS = re.compile(
  rf'(?:(?<=[\d)}}%])|(?<=\\pi)),? ?(?:(?:or|which is|i\.e\.),? )?{ABOUT} ?{NUMBER}'
)
IN_BRACKETS = re.compile(
  rf'(?<=[\w)}}%]) ?\((?:or |which is |i\.e\.,? )?(?:{ABOUT}|=) ?{NUMBER}\)'
)


def normal(text: str) -> str:
  r"""\sqrt2 \approx 1.4 for \sqrt2 (\approx 1.4) and \sqrt2, or about 1.4."""
  for pattern in (IN_BRACKETS, IN_WORDS):
    for match in pattern.finditer(text):
      if not re.search(r'[\d\\]', text[: match.start()]):
        continue  # a name
      if match.end() == len(text.rstrip(' .')):
        return rf'{text[: match.start()]} \approx {match[1]}'
  return text


def exact_value(exact: Value, rounded: Value) -> Value | None:
  """The exact value, if the rounded one is a number near it; else None. The
  number that an expression must be near is left in its text."""
  if rounded.kind != 'number' or exact.kind not in ('number', 'text'):
    return None
  number, unit = rounded.number, exact.unit
  if rounded.unit == '%' != unit:
    number /= 100
  elif unit != rounded.unit:
    if unit and rounded.unit:
      return None
    unit = unit or rounded.unit
  exact = exact._replace(unit=unit)
  if exact.kind == 'number':
    return exact if _is_near(exact.number, number, rounded) else None
  if not exact.raw:
    return None
  ratio = rf'\frac{{{abs(number.numerator)}}}{{{number.denominator}}}'
  decimal = ratio if number >= 0 else '-' + ratio
  return exact._replace(
    raw=rf'{exact.raw} \approx {decimal}', text=rf'{exact.text}\approx{decimal}'
  )


def _is_near(exact, number, rounded):
  error = abs(exact - number)
  unit = Fraction(1, 10**rounded.decimals)
  if rounded.unit == '%':
    unit /= 100
  has_digits = abs(number) >= unit * 10 ** (MIN_DIGITS - 1)
  is_rounded = has_digits and 2 * error <= unit
  return is_rounded or error <= abs(number) * MAX_RELATIVE_ERROR
