r"""Math answers: the one final answer of a response, compared exactly.

Nothing here evaluates what a model wrote; a response is scanned once, and only
a capped piece of it is read. `exact` says None where two texts differ but
mathematics might still find them equal: deeper verifiers go behind it, in
`equal`.

The rules that a reader might argue with:
- 0.3333 is never 1/3. A gold with three decimals or more may be a rounded one
  (3.33333): an answer that rounds to it at its own digits counts.
- 50% is 50% and 0.5. A missing sign is forgiven above 1, where no fraction of
  a whole can be meant: 50% is 50, but 0.5% is not 0.5, nor 1% 1.
- A unit, and the `x =` before a value, are compared where both sides have
  them, forgiven where one side has none.
- Brackets matter: (1,2), [1,2] and (1,2] differ. {1,2}, "2, 1", "1 and 2" are
  one set. In brackets a comma separates: (1,234) has two entries. "x=1, y=2" is
  the point (1,2), and so is a matrix of one column.
- Where the gold is a choice, B or (B) or "(B) 4", an answer that names a letter
  so is judged by its letter.
"""

import re

import numpy as np

from r1jax import errors
from r1jax.rewards.math import cleaning, value_forms

MAX_PLAIN = 100  # characters of an answer that stands outside a box
MAX_BOXES = 8  # different boxes that are compared with one another
BOX = re.compile(r'\\(?:boxed|fbox)\s*\{|\\.|[{}]', re.DOTALL)
PROSE = re.compile(r'(?<!\S)[a-zA-Z]{3,}(?![^\s.,])')


def accuracy(records, texts):
  """1 where the final answer equals the record's gold answer, else 0."""
  return np.array(
    [
      (answer := extract(text)) is not None and equal(answer, record['answer'])
      for record, text in zip(records, texts, strict=True)
    ],
    np.float32,
  )


def check_gold(record):
  """Refuses a gold answer that `equal` could not compare with anything."""
  if 'answer' not in record:
    raise errors.UserError(
      f'record {record["id"]} has no answer, which the accuracy reward compares '
      'with: give it one, or leave the record out'
    )
  gold = record['answer']
  if not isinstance(gold, str) or value_forms.read(gold) is None:
    raise errors.UserError(
      f'the gold answer {str(gold)[:60]!r} of record {record["id"]} cannot be '
      f'read: make it one value of at most {value_forms.MAX_ANSWER} characters, with '
      'balanced brackets'
    )


def extract(text):
  r"""The final answer, or None: the last \boxed{} after the thinking.

  Inside the last <answer> where there are such tags; several boxes must be
  equal; without a box only an <answer> that is plainly one value counts.
  """
  _, _, rest = text.rpartition('</think>')
  if '<think>' in rest:
    return None
  tagged = '<answer>' in rest
  if tagged:
    rest, _, after = rest.rpartition('</answer>')
    _, opened, rest = rest.rpartition('<answer>')
    if not opened or '<answer>' in after:
      return None
  found = list(dict.fromkeys(_boxes(rest)))
  if not found:
    return _plainly_one_value(rest) if tagged else None
  last = found[-1]
  if len(found) > MAX_BOXES or not (
    cleaning.choice(last) or value_forms.read(last)
  ):
    return None
  return last if all(equal(x, last) for x in found[:-1]) else None


def equal(answer, gold):
  """Whether the answer is the gold; what `exact` leaves open is not."""
  return exact(answer, gold) is True


def exact(answer, gold):
  """True or False where exact rules settle it, None where they do not."""
  if letter := cleaning.choice(gold):
    if chosen := cleaning.choice(answer):
      return chosen == letter
  a, g = value_forms.read(answer), value_forms.read(gold)
  if a is None or g is None:
    return False
  if _same(a, g) or _spelled(answer) == _spelled(gold):
    return True
  return False if _settled(a) and _settled(g) else None


def _spelled(text):
  return cleaning.tight(cleaning.clean(text))


def _boxes(text):
  r"""Contents of the balanced \boxed{} and \fbox{}, outermost ones only."""
  opened, found = [], []
  for token in BOX.finditer(text):
    mark = token[0]
    if mark == '}' and opened:
      start, boxed = opened.pop()
      if boxed:
        while found and found[-1][0] > start:
          found.pop()
        found.append((start, token.start()))
    elif mark == '{' or len(mark) > 2:
      opened.append((token.end(), mark != '{'))
  return [text[start:end].strip() for start, end in found]


def _plainly_one_value(text):
  text = text.strip()
  if len(text) > MAX_PLAIN or '\n' in text or cleaning.SPOKEN.match(text):
    return None
  if cleaning.choice(text):
    return text
  value = value_forms.read(text)
  if value is None or value.kind != 'text':
    return text if value else None
  words = [
    word for word in PROSE.findall(text) if word not in value_forms.FUNCTIONS
  ]
  is_expression = any(c.isdigit() for c in text)
  return text if len(words) <= (0 if is_expression else 3) else None


def _same(a, g):
  """Whether a says what the gold g says."""
  if a.kind != g.kind or (a.name and g.name and a.name != g.name):
    return False
  if a.unit and g.unit and a.unit != g.unit:
    return False
  if (a.unit == '%') != (g.unit == '%'):
    if a.kind != 'number':
      return False
    x, y = (v.body / 100 if v.unit == '%' else v.body for v in (a, g))
    return x == y or (a.body == g.body and abs(g.body) > 1)
  if a.kind == 'number':
    error = abs(a.body - g.body)
    rounded = (
      g.decimals >= value_forms.ROUNDED and 2 * error * 10**g.decimals <= 1
    )
    return error == 0 or rounded
  if a.kind == 'text':
    return a.body == g.body
  return len(a.body) == len(g.body) and all(map(_same, a.body, g.body))


def _settled(value):
  """Whether it is numbers all through, so that a difference is final."""
  if value.kind in ('number', 'text'):
    return value.kind == 'number'
  return all(map(_settled, value.body))
