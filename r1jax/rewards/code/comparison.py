"""Equality of outputs and of answers, as the judges of the sets define it."""

import decimal
import re

# Without the separators, digits of other scripts and NaN that Decimal reads.
NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,9})?', re.I | re.ASCII)
INTEGER = re.compile(r'[+-]?\d+', re.ASCII)
PADDED = re.compile(r'[+-]?0\d+', re.ASCII)  # may be a string of digits
MAX_DIGITS = 10_000  # of a number that is compared by its value
# Differences are rounded to 40 digits; what overflows is not equal.
CONTEXT = decimal.Context(prec=40, traps=[])


def same_output(
  printed: str, expected: str, tolerance: float = 0.0, ignore_case: bool = False
) -> bool:
  """Whether two outputs have the same lines.

  Empty lines at the ends, spaces at the ends of lines and the lengths of gaps
  do not count. Two words are the same if they are equal, or numbers of equal
  value: a and b with |a - b| <= tolerance * max(1, |b|) if one of them is not
  an integer.
  """
  lines, wanted = _lines(printed), _lines(expected)
  if len(lines) != len(wanted):
    return False
  for line, want in zip(lines, wanted):
    if ignore_case:
      line, want = line.casefold(), want.casefold()
    if line == want:
      continue
    words, wanted_words = line.split(), want.split()
    if len(words) != len(wanted_words):
      return False
    for word, wanted_word in zip(words, wanted_words):
      if not _same_word(word, wanted_word, tolerance):
        return False
  return True


def same_answer(answer: object, expected: object, tolerance: float) -> bool:
  """Whether a function returned what was expected: a tuple is as good as a
  list, and numbers may differ as in same_output."""
  if isinstance(answer, tuple):
    answer = list(answer)
  if isinstance(answer, list) and isinstance(expected, list):
    pairs = zip(answer, expected)
    return len(answer) == len(expected) and all(
      same_answer(x, y, tolerance) for x, y in pairs
    )
  if tolerance and float in (type(answer), type(expected)):
    numbers = int, float
    if isinstance(answer, numbers) and isinstance(expected, numbers):
      if answer != expected:
        return abs(answer - expected) <= tolerance * max(1, abs(expected))
  return bool(answer == expected)


def _lines(text):
  return [line.strip() for line in text.strip().split('\n')]


def _same_word(word, wanted, tolerance):
  if word == wanted:
    return True
  if max(len(word), len(wanted)) > MAX_DIGITS:
    return False
  if not NUMBER.fullmatch(word) or not NUMBER.fullmatch(wanted):
    return False
  are_integers = INTEGER.fullmatch(word) and INTEGER.fullmatch(wanted)
  if are_integers and (PADDED.fullmatch(word) or PADDED.fullmatch(wanted)):
    return False
  x, y = decimal.Decimal(word), decimal.Decimal(wanted)
  if x == y:
    return True
  if not tolerance or are_integers:
    return False
  size = max(decimal.Decimal(1), y.copy_abs())
  limit = CONTEXT.multiply(decimal.Decimal(tolerance), size)
  difference = CONTEXT.subtract(x, y).copy_abs()
  return difference.is_finite() and limit.is_finite() and difference <= limit
