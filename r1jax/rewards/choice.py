"""Multiple choice: the letter of an option, or the option's own words."""

import re

import numpy as np

from r1jax import errors
from r1jax.rewards.math import grading

LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
LETTER = re.compile(
  r'(?:(?:the )?(?:answer|option|choice)(?: is)?:? *)?'
  r'[([{]?([A-Z])[)\]}]?(?:[.:)] *(.*)|\.)?',
  re.DOTALL | re.IGNORECASE,
)
ORNAMENT = re.compile(
  r'\\(?:text(?:bf|it|rm)?|mathrm|mathbf|operatorname)\{([^{}]*)\}'
)


def choice(records, texts):
  """1 where the final answer is the record's choice, else 0."""
  return np.array(
    [
      chosen(record, grading.extract(text)) == record['answer']
      for record, text in zip(records, texts, strict=True)
    ],
    np.float32,
  )


def check(record):
  """Refuses a record whose `answer` is not the letter of one of `choices`."""
  choices = record['choices']
  good = isinstance(choices, list) and all(isinstance(x, str) for x in choices)
  if not good or not 2 <= len(choices) <= len(LETTERS):
    raise errors.UserError(
      f'record {record["id"]}: choices must be a list of 2 to {len(LETTERS)} '
      'texts'
    )
  if record.get('answer') not in list(LETTERS[: len(choices)]):
    raise errors.UserError(
      f'record {record["id"]} has {len(choices)} choices and the answer '
      f'{record.get("answer")!r}: make it a letter from A to '
      f'{LETTERS[len(choices) - 1]}'
    )


def chosen(record, answer):
  """The letter that an extracted answer names, or None.

  'B', '(B)', 'B.', 'Option B', 'B) its words' or the words alone; words that
  are another option's than the letter name nothing.
  """
  if answer is None:
    return None
  spoken = [_plain(x) for x in record['choices']]
  answer = ORNAMENT.sub(r'\1', answer).strip().strip('$').strip()
  if spoken.count(_plain(answer)) == 1:
    return LETTERS[spoken.index(_plain(answer))]
  match = LETTER.fullmatch(answer)
  if not match:
    return None
  letter, words = match[1].upper(), _plain(match[2] or '')
  n = LETTERS.index(letter)
  if n >= len(spoken) or (words and words != spoken[n]):
    return None
  return letter


def _plain(text):
  return ' '.join(text.casefold().strip(' .$').split())
