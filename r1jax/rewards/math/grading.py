r"""Extracts the final answer of a response and compares it with the gold answer
by exact rules. Nothing that a model wrote is evaluated.

- 0.3333 is not 1/3. A gold with three or more decimals may be a rounded number,
  as 3.33333: an answer that rounds to it is equal.
- 50% equals 50% and 0.5. A missing percent sign is accepted for values above 1:
  50% equals 50, but 0.5% does not equal 0.5, and 1% does not equal 1.
- Units, and names before the value (x =), are compared if both sides have them.
- Brackets are compared: (1,2), [1,2] and (1,2] differ. {1,2}, "2, 1" and
  "1 and 2" are the same set. In brackets a comma is a separator: (1,234) has
  two entries. "x=1, y=2" and a matrix with one column are the point (1,2).
- If the gold is a choice, B or (B) or "(B) 4", a letter is compared with it.
"""

import re

import numpy as np

from r1jax import errors
from r1jax.rewards import format, verdict
from r1jax.rewards.math import cleaning, units, value_forms
from r1jax.rewards.verdict import Record, Records, Texts, Verdict, VerifyConfig

SYMBOLIC = 'r1jax.rewards.math.symbolic:equal'  # a worker calls it
MAX_UNBOXED = 100  # characters of an answer without a box
MAX_BOXES = 8  # different boxes in a response
MAX_WORDS = 3  # of an answer without a box
BOX = re.compile(r'\\(?:boxed|fbox)\s*\{|\\.|[{}]', re.DOTALL)
WORD = re.compile(r'(?<!\S)[a-zA-Z]{3,}(?![^\s.,])')


def accuracy(records: Records, texts: Texts) -> np.ndarray:
  """1 where the final answer equals the record's gold answer, else 0."""
  pairs = zip(map(extract, texts), records, strict=True)
  correct = [a is not None and equal(a, x['answer']) for a, x in pairs]
  return np.array(correct, np.float32)


def check_gold(record: Record) -> None:
  """Raises a UserError if the record has no gold answer that can be read."""
  name, gold = f'record {record["id"]}', record.get('answer')
  if 'answer' not in record:
    raise errors.UserError(f'{name} has no answer to compare with: add it')
  if not isinstance(gold, str) or value_forms.read(gold) is None:
    raise errors.UserError(
      f'the gold answer {str(gold)[:60]!r} of {name} cannot be read: make it '
      f'one value with balanced brackets, at most {value_forms.MAX_ANSWER} long'
    )


def extract(text: str) -> str | None:
  r"""The final answer of a response: its last \boxed{}, which all others must
  equal. Without a box, the content of <answer> if it is a single value."""
  text, is_tagged = format.answer_part(text)
  boxes = list(dict.fromkeys(find_boxes(text)))
  if not boxes:
    return _single_value(text) if is_tagged else None
  answer = boxes[-1]
  if len(boxes) > MAX_BOXES:
    return None
  if not cleaning.choice(answer) and value_forms.read(answer) is None:
    return None
  return answer if all(equal(box, answer) for box in boxes[:-1]) else None


def equal(answer: str, gold: str) -> bool:
  """Whether the exact rules find the answer equal to the gold."""
  return exact(answer, gold) is True


def exact(answer: str, gold: str) -> bool | None:
  """Whether the answer equals the gold; None if exact rules cannot decide."""
  gold_letter = cleaning.choice(gold)
  letter = cleaning.choice(answer) if gold_letter else None
  if letter:
    return letter == gold_letter
  value, gold_value = value_forms.read(answer), value_forms.read(gold)
  if value is None or gold_value is None:
    return False
  spellings = {cleaning.tight(cleaning.clean(text)) for text in (answer, gold)}
  if _are_equal(value, gold_value) or len(spellings) == 1:
    return True
  return False if _is_numeric(value) and _is_numeric(gold_value) else None


class MathVerifier(verdict.Verifier):
  """Compares by the exact rules and, if they do not decide, symbolically.
  Handles all records that no other verifier handles."""

  check, extract = staticmethod(check_gold), staticmethod(extract)

  def __init__(self, config: VerifyConfig, records: Records) -> None:
    self.pool = verdict.open_pool(config, config.seconds)

  @staticmethod
  def handles(record: Record) -> bool:
    return True

  def judge(self, records: Records, answers: Texts) -> list[Verdict]:
    pairs = [[a, record['answer']] for a, record in zip(answers, records)]
    exact_N = [exact(answer, gold) for answer, gold in pairs]
    undecided = [pair for pair, x in zip(pairs, exact_N) if x is None]
    results = iter(self.pool.map(SYMBOLIC, undecided))
    verdicts = []
    for (answer, gold), is_equal in zip(pairs, exact_N):
      if is_equal is None:
        verdicts.append(verdict.of_result(next(results)))
        continue
      relation = 'is' if is_equal else 'is not'
      reason = f'{verdict.quote(answer)} {relation} {verdict.quote(gold)}'
      verdicts.append(verdict.equality(is_equal, reason + ', by exact rules'))
    return verdicts


def find_boxes(text):
  r"""The contents of the outermost \boxed{} and \fbox{}, if they are closed."""
  opened, boxes = [], []
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


def _single_value(text):
  """The stripped text if it is a choice, a value, or a few words; else None."""
  text = text.strip()
  is_long = len(text) > MAX_UNBOXED or '\n' in text
  if is_long or cleaning.INTRODUCTION.match(text):
    return None
  if cleaning.choice(text):
    return text
  value = value_forms.read(text)
  if value is None or value.kind != 'text':
    return text if value else None
  words = [word for word in WORD.findall(text) if word not in units.FUNCTIONS]
  max_words = 0 if any(char.isdigit() for char in text) else MAX_WORDS
  return text if len(words) <= max_words else None


def _are_equal(a, gold):
  if a.kind != gold.kind or (a.name and gold.name and a.name != gold.name):
    return False
  if a.unit and gold.unit and a.unit != gold.unit:
    return False
  if (a.unit == '%') != (gold.unit == '%'):
    if a.kind != 'number':
      return False
    x, y = (v.number / 100 if v.unit == '%' else v.number for v in (a, gold))
    return x == y or (a.number == gold.number and abs(gold.number) > 1)
  if a.kind == 'number':
    error = abs(a.number - gold.number)
    may_be_rounded = gold.decimals >= value_forms.MIN_ROUNDED_DECIMALS
    return error == 0 or (may_be_rounded and 2 * error * 10**gold.decimals <= 1)
  if a.kind == 'text':
    return a.text == gold.text
  same_size = len(a.parts) == len(gold.parts)
  return same_size and all(map(_are_equal, a.parts, gold.parts))


def _is_numeric(value):
  """Whether the value consists of numbers only, so that exact rules suffice."""
  if value.kind in ('number', 'text'):
    return value.kind == 'number'
  return all(map(_is_numeric, value.parts))
