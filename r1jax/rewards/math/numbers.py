r"""Reads a number and says whether it is in final form.

In final form are: an integer or decimal, with an exponent of ten (7\times10^1)
or without; a repeating decimal; a fraction of two integers that is not an
integer, reduced or not; a mixed number. 140/2, (5+2)/2, 2^3, \sqrt9 and 5-2 are
not: an operation is left to be carried out.
"""

import re
from fractions import Fraction
from typing import NamedTuple

MAX_EXPONENT = 1000

PLAIN = r'(?:\d+\.?\d*|\.\d+)'
SIGNED = rf'([+-]?{PLAIN})'
DECIMAL = re.compile(rf'{SIGNED}(?:(?:[eE]|\*10\^)\{{?([+-]?\d{{1,4}})\}}?)?')
POWER = re.compile(r'([+-]?)10\^\{?([+-]?\d{1,4})\}?')
SLASH = re.compile(rf'([+-]?)(?:(\d+) )?({PLAIN})/(-?{PLAIN})')
BRACED = re.compile(rf'\{{{SIGNED}\}}/\{{{SIGNED}\}}')
RATIO = re.compile(rf'([+-]?)(\d*)\\frac\{{{SIGNED}\}}\{{{SIGNED}\}}')
REPEATING = re.compile(
  r'([+-]?)(\d*)\.(\d*)(?:\\overline\{(\d+)\}|\((\d+)\)|'
  r'(?:\.{2,3}|\\[lc]?dots))'
)
NEGATED = re.compile(r'([+-])[({]([^()+-]*)[)}]')


class Number(NamedTuple):
  value: Fraction
  decimals: int = 0  # after the point
  is_final: bool = True


def read(text: str) -> Number | None:
  """The Number of a text without spaces, or None if it is something else."""
  if match := NEGATED.fullmatch(text):
    text = match[1] + match[2]
  if match := POWER.fullmatch(text):
    text = f'{match[1]}1e{match[2]}'
  if match := DECIMAL.fullmatch(text):
    exponent = int(match[2] or 0)
    if abs(exponent) > MAX_EXPONENT:
      return None
    decimals = len(match[1].partition('.')[2])
    value = Fraction(match[1].removesuffix('.')) * Fraction(10) ** exponent
    return Number(value, 0 if match[2] else decimals)
  if '.' in text and (match := REPEATING.fullmatch(text)):
    return _read_repeating(match)
  if '/' in text:  # without one the search in a long number would be slow
    text = BRACED.sub(r'\\frac{\1}{\2}', text)
    text = SLASH.sub(r'\1\2\\frac{\3}{\4}', text)
  match = RATIO.fullmatch(text)
  return _read_ratio(match) if match else None


def _read_ratio(match):
  sign, whole, above, below = match.groups()
  if whole and not (above + below).isdigit():
    return None
  a, b = (Fraction(x.removesuffix('.')) for x in (above, below))
  if b == 0:
    return None
  ratio = a / b
  is_final = ratio.denominator > 1 and '.' not in above + below
  if whole:
    is_final = is_final and ratio < 1
  value = int(whole or 0) + ratio
  return Number(-value if sign == '-' else value, 0, is_final)


def _read_repeating(match):
  sign, whole, digits, overlined, bracketed = match.groups()
  period = overlined or bracketed
  if period is None:
    found = _find_period(digits)
    if found is None:
      return None
    digits, period = found
  n, m = len(digits), len(period)
  value = Fraction(int(whole + digits or 0), 10**n)
  value += Fraction(int(period), (10**m - 1) * 10**n)
  return Number(-value if sign == '-' else value)


def _find_period(digits):
  """(digits, period) of the decimals before '...': the period is the shortest
  suffix that occurs twice, or a digit that occurs three times."""
  for m in range(1, len(digits) // 2 + 1):
    period = digits[-m:]
    if digits.endswith(period * (3 if m == 1 else 2)):
      return digits[:-m], period
  return None
