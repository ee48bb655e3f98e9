r"""Reads which choice an answer names.

1. A letter of the choices, as B, (B), 'B.', 'Option B', 'the answer is B', 选B,
   答案是B, 'B is correct'; full-width, bold, or in LaTeX.
2. A letter with words, as '(B) 12', 'B: 12'. The words must be those of the
   choice B.
3. The words of exactly one choice, or a value that equals exactly one.

Anything else names none: two letters, 'not B', 'B or C', 'B because …'.
"""

import re
import unicodedata
from typing import NamedTuple

from r1jax.rewards.math import dress, grading

LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
MAX_CHARS = 2000  # of an answer
MAX_OPTION = 200  # characters of a value that is compared by mathematics

DELIMITER = re.compile(r'\\[()\[\]]|(?<!\\)\$')
SPACE = re.compile(
  r'\\(?:[,;:! ]|q?quad(?![a-zA-Z])|hspace ?\{[^{}]*\})|(?<=[^\s~])~(?!~)'
)
BOLD = re.compile(
  r'(?<![\w*])(\*{1,3}|_{1,2})(?=[^\s*_])(.*?)(?<=[^\s*_])\1(?![\w*])'
)
HTML = re.compile(r'</?(?:b|strong|i|em|u|p|span|br)\b[^<>]*>')
QUOTES = '""', "''", '``', '“”', '‘’', '「」', '《》'
GROUP = re.compile(r'(?<![\w}^\\])\{([^{}]*)\}')

START = r"""(?x:
  (?:(?:so|thus|hence|therefore|finally),?\ )*
  (?:(?:the|my|our)\ )?(?:(?:final|correct|right|best)\ )*
  (?:answer|ans|option|choice|letter)s?
  (?:\ to\ (?:the|this)\ (?:question|problem))?
  (?:\ (?:is|are|would\ be|must\ be|should\ be|=))*[:=]?\ *
  (?:(?:the\ )?(?:letter|option|choice):?\ )?
  |(?:so|thus|hence|therefore),?\ (?=[(\[]?[a-z]\b)
  |(?:(?:so|thus|hence|therefore),?\ )?(?:(?:I|we)\ )?
  (?:choose|chose|pick|select)\ (?:(?:the\ )?(?:letter|option|choice|answer):?\ )?
  |(?:(?:so|thus|hence|therefore),?\ )?it(?:\ is|'s)\ (?:option\ )?
  |correct:\ *|【答案】\ *|(?:所以|因此)?正确的(?:选项)?是
  |(?:所以|因此|综上所述|综上|故)?[,、]?(?:本题|此题|我)?的?
  (?:最终|正确|最后)?的?(?:答案|选项)(?:应该|应)?(?:是|为|选)?(?:选项)?[:]?\ *
  |(?:所以|因此|综上所述|综上|故)?[,、]?(?:本题|此题|我)?的?(?:答案)?
  (?:应该|应)?选(?:择|项)?(?:选项)?[:]?\ *
)"""
INTRODUCTION = re.compile(rf'(?is){START}')
END = r"""(?x:
  \ (?:is|must\ be)\ (?:(?:the\ )?(?:correct|right|best)
  (?:\ (?:answer|option|choice|one))?|the\ answer)
  |\ ?(?:项|选项)?(?:是)?(?:正确|对)(?:的|答案|选项)?
  |\ ?(?:(?:项|选项)(?:符合题意)?|符合题意)
)"""
# Signs without a meaning of their own, before and after an answer.
MARKS = r'∴|→|⇒|=>|#+ |✓|✔|✅|\\(?:therefore|checkmark|implies|[rR]ightarrow)'
OUTER_MARKS = re.compile(
  rf'^(?:(?:{MARKS}) *){{1,3}}|(?: *(?:{MARKS})){{1,3}}$'
)
REVERSED = re.compile(
  r'(?is)(?P<words>.+?)(?:,? [(\[](?:option |choice )?(?P<letter>[A-Z])[)\]]'
  r'|, (?:option|choice) [(\[]?(?P<named>[A-Z])[)\]]?)'
)
BRACKETS = {
  '(': ')',
  '[': ']',
  '{': '}',
  '【': '】',
  '〔': '〕',
  '"': '"',
  "'": "'",
}
OPEN, CLOSE = (
  re.escape(''.join(BRACKETS)),
  re.escape(''.join(BRACKETS.values())),
)
LETTER = re.compile(
  rf'(?is)(?:{START})?(?P<open>[{OPEN}])?(?P<letter>[A-Z])'
  rf'(?P<close>\.?[{CLOSE}])?(?:{END})?'
  r'(?P<words>(?P<separator>[.:,、)\]]+| [-–—](?= ))? *(?P<rest>.*))'
)
SEVERAL = re.compile(r' ?(?:[,;、/&\n]| and |和|与|及) ?(?:and )?')
JOINED = re.compile(r'[([]?([A-Z](?: ?[A-Z])+)[)\]]?')
# What is said of several choices together.
ALL = re.compile(
  r'(?i)^both (?=.* and )|^(?:options|choices) '
  r'| are (?:the )?(?:correct|right)(?: (?:answers|options|choices))?$'
  r'|(?:[两三四]项)?(?:都?是?正确的?)$|[两三四]项$'
)
OWN_LABEL = r'(?is)[(\[]?{}(?:[)\]]|[.:)])[.:]? *(?P<words>\S.*)'

# A value with the letter of another choice beside it is not read: 'A = 12'.
LABELS = re.compile(r'(?<![a-zA-Z\\])[A-Z](?![a-zA-Z])')


class Options(NamedTuple):
  """The choices of a record."""

  texts: list[str]  # for mathematics
  keys: list[str]  # for comparison by words


def read_options(choices: list[str]) -> Options:
  """The choices without their dress, and without labels such as 'B. ' if all of
  them have one."""
  texts = [plain(text) for text in choices]
  found = [
    re.fullmatch(OWN_LABEL.format(letter), text)
    for letter, text in zip(LETTERS, texts)
  ]
  if all(found):
    texts = [match['words'] for match in found if match]
  return Options(texts, [_key(text) for text in texts])


def single(options: Options, answer: str) -> str | None:
  """The letter of the choice that a line of an answer names, or None."""
  text = plain(answer)
  if letter := _letter(options, text) or _last_letter(options, text):
    return letter
  number = _of_words(options, text)
  if number is None and (match := INTRODUCTION.match(text)):
    number = _of_words(options, text[match.end() :])
  return None if number is None else LETTERS[number]


def several(options: Options, answer: str) -> str | None:
  """The letters, in order, of the choices that a line names, or None."""
  text = plain(answer)
  if match := INTRODUCTION.match(text):
    text = text[match.end() :]
  text = text.replace(r'\{', '').replace(r'\}', '').removesuffix('.').strip()
  text = ALL.sub('', text)
  if match := JOINED.fullmatch(text):
    letters = list(match[1].replace(' ', ''))
  else:
    parts = [part for part in SEVERAL.split(text) if part]
    letters = [single(options, part) or '' for part in parts]
  known = set(LETTERS[: len(options.texts)])
  if not letters or not set(letters) <= known:
    return None
  return ''.join(sorted(letters)) if len(set(letters)) == len(letters) else None


def joined(named: list[str | None]) -> str | None:
  """The letters of lines that name one choice each, in order, or None."""
  letters = [name for name in named if name and len(name) == 1]
  is_whole = len(letters) == len(named) == len(set(letters))
  return ''.join(sorted(letters)) if letters and is_whole else None


def says(line: str) -> bool:
  """Whether a line has more than the beginning of a sentence ('The answer:')."""
  return bool(line.strip()) and not INTRODUCTION.fullmatch(plain(line))


def plain(text: str) -> str:
  r"""The text without fonts, markdown and dollars, in half-width characters."""
  text = unicodedata.normalize('NFKC', text)
  text = ''.join(c for c in text if unicodedata.category(c) != 'Cf')
  text = DELIMITER.sub(' ', dress.remove(HTML.sub('', text)))
  text = SPACE.sub(' ', text)
  for _ in range(3):  # nested braces
    text = GROUP.sub(r'\1', text)
  for _ in range(2):
    text = BOLD.sub(r'\2', text)
  text = re.sub(r' (?=[.,:;)\]])|(?<=[(\[]) ', '', ' '.join(text.split()))
  text = OUTER_MARKS.sub('', text.strip(' 。')).strip(' 。')
  is_quoted = any(text[:1] + text[-1:] == pair for pair in QUOTES)
  return text[1:-1].strip() if is_quoted and len(text) > 2 else text


def _letter(options, text):
  """The letter that a text names, if what follows it are the words of its
  choice."""
  match = LETTER.fullmatch(text)
  if not match or not _brackets_match(match):
    return None
  number = LETTERS.index(match['letter'].upper())
  if number >= len(options.texts):
    return None
  rest = match['rest'].strip(' .。')
  is_separate = match['separator'] or match['close'] or ' ' in match['words']
  if not rest:
    return LETTERS[number] if match['separator'] in (None, '.', ')') else None
  same = is_separate and _of_words(options, rest, number) == number
  return LETTERS[number] if same else None


def _last_letter(options, text):
  """The letter after the words of its choice, as in '12 (B)'."""
  match = REVERSED.fullmatch(text)
  letter = match and (match['letter'] or match['named']).upper()
  if not letter or letter not in LETTERS[: len(options.texts)]:
    return None
  number, words = LETTERS.index(letter), match['words']
  if begin := INTRODUCTION.match(words):
    words = words[begin.end() :]
  return letter if _of_words(options, words, number) == number else None


def _brackets_match(match):
  if not match['close']:
    return True
  return match['close'][-1] == BRACKETS.get(match['open'] or '(') or (
    not match['open'] and match['close'][-1] == ']'
  )


def _of_words(options, text, only=None):
  """The number of the one choice with these words, or with this value. With
  `only` another choice may have them too."""
  key, numbers = _key(text), range(len(options.keys))
  if not key:
    return None
  same = [n for n in numbers if options.keys[n] == key]
  is_value = not any(x in LETTERS[: len(numbers)] for x in LABELS.findall(text))
  is_value = is_value and '?' not in text and '~~' not in text  # struck out
  if not same and is_value and len(text) <= MAX_OPTION:
    same = [
      n
      for n in numbers
      if len(options.texts[n]) <= MAX_OPTION
      and ('%' in text) == ('%' in options.texts[n])
      and grading.equal(text, options.texts[n], final_form=False)
    ]
  if only in same:
    return only
  return same[0] if len(same) == 1 else None


def _key(text):
  """The words of a text, for comparison."""
  return ' '.join(text.casefold().strip(' .。').split())
