r"""Extracts the final answer of a response and compares it with the gold answer
by exact rules. Nothing that a model wrote is evaluated.

- A gold that is a number in final form (numbers.py) asks for one: 70 is not
  140/2 nor 35+35, and 7/2 is 3.5 and 3\frac12 but not (5+2)/2. In a list or a
  tuple this holds for each entry. Other golds, as 2\sqrt3, compare by value.
  VerifyConfig.final_form or a record's `final_form` = false allows all
  expressions of the same value.
- 0.3333 is not 1/3. A gold with three or more decimals may be a rounded number,
  as 3.33333: an answer that rounds to it is equal. Zeros before the first
  digit do not count: 0.0125 may be rounded, 0.001 is exact.
- 50% equals 50% and 0.5. A missing percent sign is accepted for values above 1:
  50% equals 50, but 0.5% does not equal 0.5, and 1% does not equal 1.
- Units are those that units.py knows, and names before the value (x =) those of
  left_sides.py. Both are compared if both sides have them. Named values are
  compared by name if both sides have names, and in written order otherwise.
- Brackets are compared: (1,2), [1,2] and (1,2] differ. {1,2}, "2, 1" and
  "1 and 2" are the same set; {1,2,2} is {1,2}, but the list 1,2,2 is not. In
  brackets a comma is a separator: (1,234) has two entries. A matrix with one
  column is the point (1,2).
- Numbers may be in words, and a sentence gives the value that it ends with
  (sentences.py), unless it denies, doubts or compares. An exact value may have
  a rounded one after it, \sqrt2 (\approx 1.414), which must be near it.
- If the gold is a choice, B or (B) or "(B) 4", a letter is compared with it.
- A response may have several boxes if all of them equal the gold.
"""

import re

import numpy as np

from r1jax import errors
from r1jax.data import gold_answers
from r1jax.rewards import format, verdict
from r1jax.rewards.math import (
  cleaning,
  exact_rules,
  phrases,
  units,
  value_forms,
)
from r1jax.rewards.verdict import Record, Records, Texts, Verdict, VerifyConfig

SYMBOLIC = 'r1jax.rewards.math.symbolic:equal'  # a worker calls it
MAX_UNBOXED = 100  # characters of an answer without a box
MAX_BOXES = 8  # different boxes in a response
MAX_WORDS = 3  # of an answer without a box
WORD = re.compile(r'(?<!\S)[a-zA-Z]{3,}(?![^\s.,])')


def accuracy(records: Records, texts: Texts) -> np.ndarray:
  """1 where the final answer equals the record's gold answer, else 0."""
  correct = []
  for text, record in zip(map(extract, texts), records, strict=True):
    final_form = record.get('final_form', True)
    correct.append(
      text is not None
      and any(
        equal(text, gold, final_form)
        for gold in gold_answers.alternatives(record['answer'])
      )
    )
  return np.array(correct, np.float32)


def check_gold(record: Record) -> None:
  """Raises a UserError if the record has no gold answer that can be read."""
  name, gold = f'record {record["id"]}', record.get('answer')
  if 'answer' not in record:
    raise errors.UserError(f'{name} {verdict.NO_GOLD}')
  for one in gold_answers.alternatives(gold):
    if not isinstance(one, str) or value_forms.read(one) is None:
      raise errors.UserError(
        f'the gold answer {str(one)[:60]!r} of {name} cannot be read: make it '
        f'one value with balanced brackets, at most {value_forms.MAX_ANSWER} '
        'long'
      )
    if gold_answers.is_prose(one):
      raise errors.UserError(f'{name}: {verdict.PROSE}')
  if not isinstance(record.get('final_form', True), bool):
    raise errors.UserError(f'final_form of {name} must be true or false')


def extract(text: str) -> str | None:
  r"""The final answer of a response: its last \boxed{}. Several boxes that may
  differ in form only are returned together, as \boxed{a}\boxed{b}; different
  ones are no answer. Without a box, the content of <answer> if it is one value.
  """
  text, is_tagged = format.answer_part(text)
  boxes = list(dict.fromkeys(gold_answers.find_boxes(text)))
  if not boxes:
    return _single_value(text) if is_tagged else None
  answer = boxes[-1]
  if len(boxes) > MAX_BOXES:
    return None
  if not cleaning.choice(answer) and value_forms.read(answer) is None:
    return None
  verdicts = [_exact_one(box, answer, False) for box in boxes[:-1]]
  if False in verdicts:
    return None
  if None not in verdicts:
    return answer
  return ''.join(rf'\boxed{{{box}}}' for box in boxes)


def forms(answer: str) -> list[str]:
  r"""The boxes of an extracted answer \boxed{a}\boxed{b}, or the answer."""
  boxes = (
    gold_answers.find_boxes(answer) if answer.startswith(r'\boxed{') else []
  )
  is_joined = ''.join(rf'\boxed{{{box}}}' for box in boxes) == answer
  return boxes if len(boxes) > 1 and is_joined else [answer]


def equal(answer: str, gold: str, final_form: bool = True) -> bool:
  """Whether the exact rules find the answer equal to the gold."""
  return exact(answer, gold, final_form) is True


def exact(answer: str, gold: str, final_form: bool = True) -> bool | None:
  """Whether the answer equals the gold; None if exact rules cannot decide. A
  number must be in final form if final_form; of several boxes, the last."""
  *others, last = forms(answer)
  verdicts = [_exact_one(other, gold, False) for other in others]
  verdicts.append(_exact_one(last, gold, final_form))
  if False in verdicts:
    return False
  return None if None in verdicts else True


def _exact_one(answer, gold, final_form):
  gold_letter = cleaning.choice(gold)
  letter = cleaning.choice(answer) if gold_letter else None
  if letter:
    return letter == gold_letter
  words = units.words_of(gold)
  value = value_forms.read(answer, words)
  gold_value = value_forms.read(gold, words)
  if value is None or gold_value is None:
    return False
  spellings = {cleaning.tight(cleaning.clean(text)) for text in (answer, gold)}
  if len(spellings) == 1:
    return True
  if final_form and not exact_rules.has_final_form(value, gold_value):
    return False
  if exact_rules.are_equal(value, gold_value):
    return True
  return (
    False
    if exact_rules.is_numeric(value) and exact_rules.is_numeric(gold_value)
    else None
  )


class MathVerifier(verdict.Verifier):
  """Compares by the exact rules and, if they do not decide, symbolically.
  Handles all records that no other verifier handles."""

  check, extract = staticmethod(check_gold), staticmethod(extract)

  def __init__(self, config: VerifyConfig, records: Records) -> None:
    self.pool = verdict.open_pool(config, config.seconds)
    self.final_form = config.final_form

  @staticmethod
  def handles(record: Record) -> bool:
    return True

  def judge(self, records: Records, answers: Texts) -> list[Verdict]:
    return verdict.best_of_golds(self._judge, records, answers)

  def _judge(self, records, answers):
    exact_N, jobs = [], []
    for answer, record in zip(answers, records):
      gold = record['answer']
      final_form = record.get('final_form', self.final_form)
      exact_N.append(exact(answer, gold, final_form))
      if exact_N[-1] is None:
        *others, last = forms(answer)
        jobs += [[form, gold, False] for form in others]
        jobs.append([last, gold, final_form])
    results = iter(self.pool.map(SYMBOLIC, jobs))
    verdicts = []
    for answer, record, is_equal in zip(answers, records, exact_N):
      if is_equal is None:
        found = [verdict.of_result(next(results)) for _ in forms(answer)]
        # NaN is less than nothing: an unknown verdict on one box is the result.
        verdicts.append(next((x for x in found if x.value != 1), found[-1]))
        continue
      reason = _reason(answer, record['answer'], is_equal)
      verdicts.append(verdict.equality(is_equal, reason))
    return verdicts


def _reason(answer, gold, is_equal):
  """Why the exact rules find an answer equal to the gold, or not."""
  shown, gold_shown = verdict.quote(answer), verdict.quote(gold)
  if is_equal:
    return f'{shown} is {gold_shown}, by exact rules'
  if exact(answer, gold, final_form=False) is not False:
    return f'{shown} is not a number in final form, as {gold_shown} is'
  return f'{shown} is not {gold_shown}, by exact rules'


def _single_value(text):
  """The stripped text if it is a choice, a value, or a few words; else None."""
  text = text.strip()
  if len(text) > MAX_UNBOXED or '\n' in text:
    return None
  if cleaning.choice(text):
    return text
  value = value_forms.read(text)
  if value is None or value.kind != 'text':
    return text if value else None
  if phrases.normal(value.raw):
    return text
  words = [
    word for word in WORD.findall(value.raw) if word not in units.FUNCTIONS
  ]
  max_words = 0 if any(char.isdigit() for char in value.raw) else MAX_WORDS
  return text if len(words) <= max_words else None
