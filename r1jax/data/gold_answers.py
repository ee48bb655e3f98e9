r"""Gold answers of records: texts, numbers, lists of alternatives, and the
answers that worked solutions end with."""

import math
import re
from typing import Any

from r1jax import errors

MARKS = '####', 'The answer is:'  # of GSM8K and of MATH-500
BOX = re.compile(r'\\(?:boxed|fbox)\s*\{|\\.|[{}]', re.DOTALL)
# A solution that is an answer: one word, or one formula.
BARE = re.compile(r'\S+|\$[^$\n]+\$|\\\([^\n]+\\\)|\\\[[^\n]+\\\]')


def read(value: Any, where: str, key: str) -> str | list[str]:
  """A gold answer as text, 14.0 as '14'; of a list with several entries, which
  are alternatives, a list of texts. Raises UserError for anything else."""
  values = value if isinstance(value, list) else [value]
  texts = [_text(x) for x in values]
  golds = list(dict.fromkeys(text for text in texts if text is not None))
  if not golds or None in texts:
    raise errors.UserError(
      f'{where}: {key!r} must be text or a number, or a list of alternatives'
    )
  return golds if len(golds) > 1 else golds[0]


def alternatives(gold: Any) -> list:
  """The gold answers of which one is enough."""
  return gold if isinstance(gold, list) else [gold]


def of_solution(solution: str) -> str | None:
  r"""The answer with which a solution ends: after a mark of MARKS, or in its
  last \boxed{}. None without one."""
  for mark in MARKS:
    _, found, gold = solution.rpartition(mark)
    if found and gold.strip():
      return gold.strip()
  boxes = find_boxes(solution)
  return boxes[-1] if boxes and boxes[-1] else None


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


def _text(value):
  if isinstance(value, str):
    return value.strip()
  if type(value) not in (int, float) or not math.isfinite(value):
    return None
  return str(int(value)) if value == int(value) else repr(value)
