"""Numbers in English words: twenty-five, two thirds, one and a half."""

import re
from fractions import Fraction

SMALL = """zero one two three four five six seven eight nine ten eleven twelve
thirteen fourteen fifteen sixteen seventeen eighteen nineteen""".split()
NUMBERS = {word: n for n, word in enumerate(SMALL)}
TENS = 'twenty thirty forty fifty sixty seventy eighty ninety'.split()
TENS_OF = {word: 10 * n for n, word in enumerate(TENS, 2)}
SCALES = dict(thousand=10**3, million=10**6, billion=10**9)
PARTS = dict(half=2, third=3, quarter=4, fourth=4, fifth=5, sixth=6, seventh=7)
PARTS |= dict(eighth=8, ninth=9, tenth=10, eleventh=11, twelfth=12)
PARTS |= dict(sixteenth=16, twentieth=20, hundredth=100, thousandth=1000)
PLURALS = {word + 's': n for word, n in PARTS.items()} | dict(halves=2)
del PLURALS['halfs']
# These are parts of a number, or of a phrase that is none.
NOT_UNITS = {*NUMBERS, *TENS_OF, *SCALES, *PARTS, *PLURALS}
NOT_UNITS |= set('hundred dozen and or over of a an hundreds thousands'.split())
SIGNS = dict(negative=-1, minus=-1, positive=1)
WORDS = re.compile(r'[a-zA-Z]+(?:[ -][a-zA-Z]+)*')
MAX_WORDS = 12


def read(text: str) -> Fraction | None:
  """The number that the whole text names, or None."""
  if not WORDS.fullmatch(text):
    return None
  words = re.split('[ -]', text.lower())
  if len(words) > MAX_WORDS:
    return None
  sign = SIGNS.get(words[0])
  value = _unsigned(words[1:] if sign else words)
  return value if value is None or sign is None else sign * value


def replace(text: str) -> str:
  """The text with the number at its start, perhaps before a unit, in digits:
  12 apples for twelve apples."""
  words = text.split(' ')
  if len(words) > MAX_WORDS or not text[:1].isalpha():
    return text
  for count in range(len(words), 0, -1):
    value = read(' '.join(words[:count]))
    rest = words[count:]
    if value is None or rest and rest[0].lower() in NOT_UNITS:
      continue
    return ' '.join([str(value), *rest])
  return text


def _unsigned(words):
  if 'over' in words:
    place = words.index('over')
    above, below = _whole(words[:place]), _whole(words[place + 1 :])
    return Fraction(above, below) if above is not None and below else None
  if 'and' in words:  # one and a half
    place = len(words) - 1 - words[::-1].index('and')
    whole, part = _whole(words[:place]), _fraction(words[place + 1 :])
    if whole is not None and part is not None and part < 1:
      return whole + part
  whole = _whole(words)
  return _fraction(words) if whole is None else Fraction(whole)


def _fraction(words):
  """two thirds, a half, half."""
  if words == ['half']:
    return Fraction(1, 2)
  if len(words) < 2:
    return None
  *count, last = words
  if count in (['one'], ['a'], ['an']):
    return Fraction(1, PARTS[last]) if last in PARTS else None
  number = _whole(count)
  if number is None or number < 2 or last not in PLURALS:
    return None
  return Fraction(number, PLURALS[last])


def _whole(words):
  """The whole number of the words, largest scale first; None for others."""
  if words and words[0] in ('a', 'an'):
    words = ['one', *words[1:]]
    if len(words) == 1:
      return None
  total, limit = 0, None
  for scale in ('billion', 'million', 'thousand'):
    if scale in words:
      place = words.index(scale)
      count = _below_thousand(words[:place])
      if not count:
        return None
      total, words = total + count * SCALES[scale], words[place + 1 :]
      limit = scale
  if limit and not words:
    return total
  if limit and words[0] == 'and':
    words = words[1:]
  rest = _below_thousand(words)
  if rest is None or limit and rest == 0:
    return None
  return total + rest


def _below_thousand(words):
  if 'hundred' in words:
    place = words.index('hundred')
    hundreds = _below_hundred(words[:place])
    if not hundreds or hundreds > 99:
      return None
    rest = words[place + 1 :]
    rest = rest[1:] if rest[:1] == ['and'] else rest
    if not rest:
      is_open = words[-1] == 'and'
      return None if is_open else 100 * hundreds
    ones = _below_hundred(rest)
    return 100 * hundreds + ones if ones else None
  return _below_hundred(words)


def _below_hundred(words):
  if len(words) == 1:
    return NUMBERS.get(words[0], TENS_OF.get(words[0]))
  if len(words) != 2 or words[0] not in TENS_OF:
    return None
  ones = NUMBERS.get(words[1], 0)
  return TENS_OF[words[0]] + ones if 0 < ones < 10 else None
