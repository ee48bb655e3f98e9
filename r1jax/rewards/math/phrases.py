"""Answers in words that have one meaning in several spellings, and times."""

import re

# The whole text must match. The values are the normal forms.
PHRASES = [
  (
    r'\\emptyset|(?:the )?(?:empty|null) set|(?:there (?:is|are) )?'
    r'(?:(?:it|this|the (?:equation|system)) has )?'
    r'no (?:real )?(?:solutions?|roots?)(?: exists?)?|(?:the )?solution set is empty|(?:方程|此题)?无(?:实数)?解|'
    r'没有(?:实数)?解|空集',
    'no solution',
  ),
  (
    r'(?:the )?(?:limit )?d\.?n\.?e\.?|(?:(?:the |this )?limit )?'
    r'(?:does not|do not|doesn\'t|did not) exist|nonexistent|(?:极限)?不存在',
    'does not exist',
  ),
  (r'(?:it is )?(?:undefined|not defined)|无意义|未定义', 'undefined'),
  (
    r'(?:there are )?(?:infinitely many|infinite|an infinite number of)'
    r'(?: solutions)?|无穷多(?:个|组)?解?|无数(?:个|组)解?',
    'infinitely many',
  ),
]
COMPILED = [(re.compile(pattern, re.I), name) for pattern, name in PHRASES]
TIME = re.compile(r"(?i)(\d{1,2})(?::(\d{2}))?(?: ?([ap])\.? ?m\.?| ?o'clock)")
NOON = re.compile(r'(?i)(?:12(?::00)? )?(noon|midnight)')
CLOCK = re.compile(r'(\d{1,2}):(\d{2})')
LEADING_ZERO = re.compile(r'0\d:\d{2}')
INFINITY = re.compile(
  r'(?i)(negative|minus|positive|plus|[+-]|正|负)? ?(?:infinity|\\infty|无穷大?)'
)
MAX_PHRASE = 60


def normal(text: str) -> str | None:
  """The normal form of a known phrase, or None."""
  if len(text) > MAX_PHRASE:
    return None
  for pattern, name in COMPILED:
    if pattern.fullmatch(text):
      return name
  return None


def infinity(text: str) -> str | None:
  r"""\infty or -\infty of words, minus infinity and 负无穷; or None."""
  match = INFINITY.fullmatch(text)
  if not match:
    return None
  is_negative = match[1] and match[1].lower() in (
    '-',
    'negative',
    'minus',
    '负',
  )
  return r'-\infty' if is_negative else r'\infty'


def clock(text: str) -> str:
  """A time of day without a leading zero: 7:05 for 07:05."""
  return text[1:] if LEADING_ZERO.fullmatch(text) else text


def time(text: str) -> tuple[str, str] | None:
  """('3:30', 'pm') of a time with am or pm; (…, '') of one on the hour."""
  if len(text) > MAX_PHRASE:
    return None
  if match := NOON.fullmatch(text):
    return '12:00', 'pm' if match[1].lower() == 'noon' else 'am'
  match = TIME.fullmatch(text)
  if not match or int(match[1]) > 24 or int(match[2] or 0) > 59:
    return None
  half = match[3].lower() + 'm' if match[3] else ''
  return f'{int(match[1])}:{match[2] or "00"}', half


def are_same_time(a: tuple[str, str], gold: tuple[str, str]) -> bool:
  """Whether an answer (clock, half of the day) tells the gold's time. If only
  the answer has the half, it is more precise; 15:30 is 3:30 pm."""
  if a == gold or a[0] == gold[0] and not gold[1]:
    return True
  return _full(a) == _full(gold) and bool(_full(a))


def _full(time):
  """Minutes since midnight, if they are known; else None."""
  hours, minutes = map(int, time[0].split(':'))
  if time[1] and hours <= 12:
    return (hours % 12 + 12 * (time[1] == 'pm')) * 60 + minutes
  return hours * 60 + minutes if hours > 12 else None
