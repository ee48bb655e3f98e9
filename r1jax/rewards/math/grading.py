r"""Extracts the final answer of a response and compares it with the gold answer
by exact rules. Nothing that a model wrote is evaluated.

- A gold that is a number in final form (numbers.py) asks for one: 70 is not
  140/2 nor 35+35, and 7/2 is 3.5 and 3\frac12 but not (5+2)/2. In a list or a
  tuple this holds for each entry. Other golds, as 2\sqrt3, compare by value.
  VerifyConfig.final_form or a record's `final_form` = false allows all
  expressions of the same value.
- 0.3333 is not 1/3. A gold with three or more decimals may be a rounded number,
  as 3.33333: an answer that rounds to it is equal.
- 50% equals 50% and 0.5. A missing percent sign is accepted for values above 1:
  50% equals 50, but 0.5% does not equal 0.5, and 1% does not equal 1.
- Units are those that units.py knows, and names before the value (x =) those of
  left_sides.py. Both are compared if both sides have them. Named values are
  compared by name if both sides have names, and in written order otherwise.
- Brackets are compared: (1,2), [1,2] and (1,2] differ. {1,2}, "2, 1" and
  "1 and 2" are the same set; {1,2,2} is {1,2}, but the list 1,2,2 is not. In
  brackets a comma is a separator: (1,234) has two entries. A matrix with one
  column is the point (1,2).
- If the gold is a choice, B or (B) or "(B) 4", a letter is compared with it.
- A response may have several boxes if all of them equal the gold.
"""

import re

import numpy as np

from r1jax import errors
from r1jax.rewards import format, verdict
from r1jax.rewards.math import (
  cleaning,
  left_sides,
  numbers,
  phrases,
  units,
  value_forms,
)
from r1jax.rewards.math.value_forms import LIST, SET, TUPLE, Value
from r1jax.rewards.verdict import Record, Records, Texts, Verdict, VerifyConfig

SYMBOLIC = 'r1jax.rewards.math.symbolic:equal'  # a worker calls it
MAX_UNBOXED = 100  # characters of an answer without a box
MAX_BOXES = 8  # different boxes in a response
MAX_WORDS = 3  # of an answer without a box
UNORDERED = r'\cup', 'and', 'or', 'cases'
EXACT = re.compile(r'\\?(?:sqrt|pi(?![a-z]))')
BOX = re.compile(r'\\(?:boxed|fbox)\s*\{|\\.|[{}]', re.DOTALL)
WORD = re.compile(r'(?<!\S)[a-zA-Z]{3,}(?![^\s.,])')


def accuracy(records: Records, texts: Texts) -> np.ndarray:
  """1 where the final answer equals the record's gold answer, else 0."""
  correct = []
  for text, record in zip(map(extract, texts), records, strict=True):
    final_form = record.get('final_form', True)
    correct.append(
      text is not None and equal(text, record['answer'], final_form)
    )
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
  if not isinstance(record.get('final_form', True), bool):
    raise errors.UserError(f'final_form of {name} must be true or false')


def extract(text: str) -> str | None:
  r"""The final answer of a response: its last \boxed{}. Several boxes that may
  differ in form only are returned together, as \boxed{a}\boxed{b}; different
  ones are no answer. Without a box, the content of <answer> if it is one value.
  """
  text, is_tagged = format.answer_part(text)
  boxes = list(dict.fromkeys(find_boxes(text)))
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
  boxes = find_boxes(answer) if answer.startswith(r'\boxed{') else []
  return boxes if len(boxes) > 1 else [answer]


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
  if final_form and not _has_final_form(value, gold_value):
    return False
  if _are_equal(value, gold_value):
    return True
  return False if _is_numeric(value) and _is_numeric(gold_value) else None


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
      relation = 'is' if is_equal else 'is not'
      gold = verdict.quote(record['answer'])
      reason = f'{verdict.quote(answer)} {relation} {gold}, by exact rules'
      verdicts.append(verdict.equality(is_equal, reason))
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
  if len(text) > MAX_UNBOXED or '\n' in text:
    return None
  if cleaning.choice(text):
    return text
  value = value_forms.read(text)
  if value is None or value.kind != 'text':
    return text if value else None
  if phrases.normal(value.raw):
    return text
  words = [word for word in WORD.findall(text) if word not in units.FUNCTIONS]
  max_words = 0 if any(char.isdigit() for char in text) else MAX_WORDS
  return text if len(words) <= max_words else None


def _has_final_form(a: Value, gold: Value) -> bool:
  """Whether all numbers of an answer that stand for final numbers of the gold
  are in final form."""
  if gold.kind == 'number':
    if not gold.is_final or gold.left == left_sides.EXPRESSION:
      return True
    if a.kind != 'text':
      return a.is_final
    return _ends_in_number(a) or _may_be_rounded(gold) and _is_exact(a)
  kinds = {a.kind, gold.kind}
  is_named_list = kinds == {TUPLE, LIST} and (a.name or gold.name)
  if kinds in ({TUPLE}, {'matrix'}) or is_named_list:
    pairs = zip(a.parts, gold.parts)
    return all(_has_final_form(part, other) for part, other in pairs)
  if kinds <= {SET, LIST}:
    if all(part.kind == 'number' and part.is_final for part in gold.parts):
      return all(_has_final_form(part, gold.parts[0]) for part in a.parts)
  return True


def _ends_in_number(value):
  """Whether a text is a chain whose value, its last side or the one before the
  approximation, is a number: 2 + 3 = 5."""
  sides = value_forms.split_sides(value.raw)
  if len(sides) < 2 or value_forms.INEQUALITY.search(value.raw):
    return False
  if not value.name and left_sides.unknowns(value.raw):
    return False
  last = -2 if value_forms.split(value.raw, r'\approx')[1:] else -1
  number = numbers.read(cleaning.tight(sides[last]))
  return number is not None and number.is_final


def _may_be_rounded(gold):
  return gold.decimals >= value_forms.MIN_ROUNDED_DECIMALS


def _is_exact(value):
  r"""Whether a text may be the exact value of a rounded gold, as \sqrt2."""
  return EXACT.search(value.raw) is not None and '=' not in value.raw


def _are_equal(a: Value, gold: Value) -> bool:
  if not units.are_compatible(a.unit, gold.unit):
    return False
  if a.name and gold.name and a.name != gold.name:
    golds = value_forms.sort_by_name(gold)
    a = value_forms.sort_by_name(a)
    return a.name == golds.name and _are_equal(a, golds)
  if gold.left == left_sides.EXPRESSION and not a.name:
    return False
  kinds = {a.kind, gold.kind}
  if 'time' in kinds:
    return _are_same_time(a, gold)
  is_set = len(kinds) == 1 and a.kind in UNORDERED
  if kinds <= {SET, LIST} or is_set:
    return _are_same_set(a, gold)
  is_named_list = kinds == {TUPLE, LIST} and (a.name or gold.name)
  if a.kind != gold.kind and not is_named_list:
    return False
  if units.is_percent(a.unit) != units.is_percent(gold.unit):
    return a.kind == 'number' and _is_same_share(a, gold)
  if a.kind == 'number':
    error = abs(a.number - gold.number)
    is_near = 2 * error * 10**gold.decimals <= 1
    return error == 0 or _may_be_rounded(gold) and is_near
  if a.kind == 'text':
    return a.text == gold.text
  same_size = len(a.parts) == len(gold.parts)
  return same_size and all(map(_are_equal, a.parts, gold.parts))


def _is_same_share(a, gold):
  """Whether a percentage equals a number; above 1 the sign may be missing."""
  shares = []
  for value in (a, gold):
    is_percent = units.is_percent(value.unit)
    shares.append(value.number / 100 if is_percent else value.number)
  if shares[0] == shares[1]:
    return True
  return a.number == gold.number and abs(gold.number) > 1


def _are_same_set(a, gold):
  """Whether each entry has its equal. A set in braces has no entry twice."""
  parts, golds = _entries(a), _entries(gold)
  if len(parts) != len(golds):
    return False
  for part in golds:
    match = next((x for x in parts if _are_equal(x, part)), None)
    if match is None:
      return False
    parts.remove(match)
  return True


def _entries(value):
  entries: list[Value] = []
  for part in value.parts:
    if value.kind == SET and any(_are_equal(part, x) for x in entries):
      continue
    entries.append(part)
  return entries


def _are_same_time(a, gold):
  times = []
  for value in (a, gold):
    clock, _, half = value.text.partition(' ')
    if value.kind != 'time' and not phrases.CLOCK.fullmatch(clock):
      return False
    times.append((clock, half))
  return phrases.are_same_time(*times)


def _is_numeric(value):
  """Whether the value consists of numbers only, so that exact rules suffice."""
  if value.left == left_sides.EXPRESSION:
    return False
  if value.kind in ('number', 'text', 'time'):
    return value.kind != 'text'
  if value.kind in (r'\cup', r'\cap', r'\setminus'):
    return False
  return all(map(_is_numeric, value.parts))
