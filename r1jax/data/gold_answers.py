r"""Gold answers of records: texts, numbers, lists of alternatives, and the
answers that worked solutions end with."""

import math
import re
from typing import Any

from r1jax import errors

MARKS = '####', 'The answer is:'  # of GSM8K and of MATH-500
BOX = re.compile(r'\\(?:boxed|fbox)\s*\{|\\.|[{}]', re.DOTALL)
# \boxed 5 of MATH, whose content ends with the formula, the line or the sentence.
OPEN_BOX = re.compile(
  r'\\(?:boxed|fbox)(?![a-zA-Z])\s*(?!\{|[A-Za-z]{2})(?=[-+(\\\w])'
  r'((?:\{(?:[^{}$]|\{[^{}$]*\})*\}|[^\s{}$]|[ ])+?)'
  r'(?=\s*(?:\$|\\[)\]]|\n|\Z)|[.,;:](?:\s|\Z)|\s+[A-Za-z]{2})'
)
# A solution that is nothing but its answer: a word, or a formula.
BARE = re.compile(r'[^\s$]+|\$[^$\n]+\$|\\\([^\n]+\\\)|\\\[[^\n]+\\\]')
SENTENCE_END = re.compile(
  r'\n|(?<=[a-z]{4}[.!?])\s+(?=[A-Z])|(?<=\d[.!?])\s+(?=[A-Z])'
)
WORD = re.compile(r'(?<!\\)\b[^\W\d_]{2,}')


def read(value: Any, where: str, key: str) -> str | list[str]:
  """A gold answer as text, 14.0 as '14'; of a list with several entries, which
  are alternatives, a list of texts. Raises UserError for anything else."""
  values = value if isinstance(value, list) else [value]
  texts = [_text(x) for x in values]
  golds = list(dict.fromkeys(text for text in texts if text is not None))
  if not golds or None in texts:
    raise errors.UserError(
      f'{where}: {key!r} must be text or a number, or a list of alternatives, '
      f'not {errors.printable(repr(value)[:60])}'
    )
  return golds if len(golds) > 1 else golds[0]


def alternatives(gold: Any) -> list:
  """The gold answers of which one is enough."""
  return gold if isinstance(gold, list) else [gold]


def of_solution(solution: str) -> str | None:
  r"""The answer with which a solution ends: the line after a mark of MARKS, or
  its last \boxed{}. None without one."""
  for mark in MARKS:
    _, found, rest = solution.rpartition(mark)
    rest = rest.strip()
    if found and rest and ('\n' not in rest or r'\begin' in rest):
      return of_solution(rest) or rest
  boxes = find_boxes(OPEN_BOX.sub(_closed_box, solution))
  return (boxes[-1] or None) if boxes else None


def of_answer(text: str, where: str, key: str) -> str:
  """The gold answer in a text, which may be a worked solution. Raises UserError
  if its mark or its last box is empty."""
  gold = of_solution(text)
  if gold is None and (text.rstrip().endswith(MARKS) or find_boxes(text)):
    raise errors.UserError(
      f'{where}: {key!r} has nothing after its last "####" or "The answer '
      r'is:", or in its last \boxed{}: write the answer there'
    )
  return gold or text


def is_same(a: Any, b: Any) -> bool:
  """Whether two columns have the same gold answers, apart from spaces and from
  how numbers are written. Worked solutions have the answer at their end."""
  return set(map(_plain, alternatives(a))) == set(map(_plain, alternatives(b)))


def _plain(value):
  text = value if isinstance(value, str) else str(_text(value))
  text = re.sub(r'[\s$]', '', of_solution(text) or text)
  try:
    return repr(float(text.replace(',', '')))
  except ValueError:
    return text


def is_prose(text: str) -> bool:
  """Whether a text has several sentences or lines of two or more words each."""
  parts = SENTENCE_END.split(text)
  long = [x for x in parts if len(WORD.findall(x)) > 1]
  return len(long) > 1 and r'\begin' not in text


def find_boxes(text: str) -> list[str]:
  r"""The contents of the outermost \boxed{} and \fbox{}, if they are closed."""
  opened: list[tuple[int, bool]] = []
  boxes: list[tuple[int, int]] = []
  for token in BOX.finditer(text):
    mark = token[0]
    if mark == '}' and opened:
      start, is_box = opened.pop()
      if is_box:
        while boxes and boxes[-1][0] > start:
          boxes.pop()
        boxes.append((start, token.start()))
    elif mark == '{' or len(mark) > 2:
      opened.append((token.end(), mark != '{'))
  return [text[start:end].strip() for start, end in boxes]


def _closed_box(match):
  return rf'\boxed{{{match[1].strip()}}}'


def _text(value):
  if isinstance(value, str):
    return value.strip()
  if type(value) not in (int, float) or not math.isfinite(value):
    return None
  return str(int(value)) if value == int(value) else repr(value)
