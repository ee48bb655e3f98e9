"""The normal spelling of expressions and of words, for comparison as text."""

import re

from r1jax.rewards.math import cleaning

SHORT_WORDS = set('no yes ok odd red sum one two six ten all any on up'.split())
TWO_LETTERS = SHORT_WORDS | set(
  'an at in is it of or so to as be by do go he if me my we us am pm'.split()
)
VOWEL_INSIDE = re.compile('[a-z][aeiou][a-z]')
PROSE = re.compile(r"[a-zA-Z ,.'-]+")
WORD = re.compile(r'[^\W\d_]+')
WORDS = re.compile(r"[\w .,'-]*[^\W\d_]{2}[\w .,'-]*")


def normal(text: str) -> str:
  r"""An expression in normal form: x^{2} as x^2, pi/2 as \frac{\pi}{2}. Words
  are in lower case, but variables are not: ab is not AB."""
  if WORDS.fullmatch(text):
    return cleaning.tight(WORD.sub(_fold, text))
  text = re.sub(r'\\(?=[a-zA-Z])', '', cleaning.tight(text))
  text = text.translate(str.maketrans('{}', '()'))
  text = re.sub(r'([\^_])\((-?\d+|[a-zA-Z])\)(?!\d)', r'\1\2', text)
  text = re.sub(r'(?<=[\d)])\*(?=[a-zA-Z(])(?!frac)', '', text)
  return re.sub(
    r'(?<![\w^)./])(\w+)/(\d+|[a-zA-Z]|pi)(?![\w^(.])', r'frac(\1)(\2)', text
  )


def is_prose(text: str) -> bool:
  """Whether it is one letter run or words, and no difference such as ad-bc."""
  if not PROSE.fullmatch(text):
    return False
  runs = re.findall('[a-zA-Z]+', text)
  is_difference = '-' in text and max(map(len, runs), default=9) <= 3
  return not is_difference or any(map(_may_be_word, runs))


def are_same_product(a: str, b: str, is_formula: bool = False) -> bool:
  """Whether two texts of letters are one product: xy is yx, no is not on. AB
  may be the name of a line, except on a side of a formula, V = IR."""
  a, b = a.replace(' ', ''), b.replace(' ', '')
  both = a + b
  is_short = len(a) <= 3 and both.isalpha()
  is_product = is_formula or not (a.isupper() or a.istitle() and len(a) == 3)
  if not is_short or not is_product or sorted(a) != sorted(b):
    return False
  if is_formula:
    return a not in SHORT_WORDS and b not in SHORT_WORDS
  return not any(_may_be_word(x) for x in (a, b))


def _may_be_word(text):
  return text in TWO_LETTERS or VOWEL_INSIDE.fullmatch(text) is not None


def _fold(match):
  return match[0].casefold() if _is_word(match[0]) else match[0]


def _is_word(text):
  """Whether it is a word and no product of variables."""
  if not text.isascii() or text.casefold() in SHORT_WORDS:
    return True
  has_vowel = re.search('[aeiouy]', text[1:].casefold()) is not None
  if len(text) > 3:
    return has_vowel or text[1:].islower()
  # Ann, but neither ann nor ANN, which may be products.
  return len(text) == 3 and text[1:].islower() and text[0].isupper()
