"""Multiple choice: the reward and the verifier. A record has `choices`, a list
of texts, and as its `answer` a letter."""

import re

import numpy as np

from r1jax import errors
from r1jax.rewards import verdict
from r1jax.rewards.math import grading
from r1jax.rewards.verdict import Record, Records, Texts, Verdict

LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
LETTER = re.compile(
  r'(?isa)(?:(?:the )?(?:answer|option|choice)(?: is)?:? *)?'
  r'[([{]?([A-Z])[)\]}]?(?:[.:)] *(.*)|\.)?'
)
FONT_COMMAND = re.compile(
  r'\\(?:text(?:bf|it|rm)?|mathrm|mathbf|operatorname)\{([^{}]*)\}'
)


def choice(records: Records, texts: Texts) -> np.ndarray:
  """1 if the final answer names the record's choice, else 0; float32."""
  letters = map(letter_of, records, map(grading.extract, texts))
  correct = [a == record['answer'] for a, record in zip(letters, records)]
  return np.array(correct, np.float32)


def check(record: Record) -> None:
  """Refuses a record whose `answer` is not the letter of one of `choices`."""
  choices, name = record['choices'], f'record {record["id"]}'
  valid = isinstance(choices, list) and all(isinstance(x, str) for x in choices)
  if not valid or not 2 <= len(choices) <= len(LETTERS):
    raise errors.UserError(f'{name}: choices must be a list of 2 to 26 texts')
  letters, answer = LETTERS[: len(choices)], record.get('answer')
  if answer not in list(letters):
    raise errors.UserError(
      f'{name}: the answer {answer!r} must be a letter from A to {letters[-1]}'
    )


class ChoiceVerifier(verdict.Verifier):
  """Compares the letters of choices."""

  check, extract = staticmethod(check), staticmethod(grading.extract)

  @staticmethod
  def handles(record: Record) -> bool:
    return 'choices' in record

  def judge(self, records: Records, answers: Texts) -> list[Verdict]:
    verdicts = []
    for record, answer in zip(records, answers):
      letter, gold = letter_of(record, answer), record['answer']
      named = f'the choice {letter}' if letter else 'no choice'
      reason = f'{verdict.quote(answer)} names {named}, the gold is {gold}'
      verdicts.append(verdict.equality(letter == gold, reason))
    return verdicts


def letter_of(record: Record, answer: str | None) -> str | None:
  """The letter that an extracted answer names, or None. It is a letter ('B',
  '(B)', 'Option B'), the text of exactly one choice, or 'B) text of B'."""
  if answer is None:
    return None
  choices = [_normalize(text) for text in record['choices']]
  answer = FONT_COMMAND.sub(r'\1', answer).strip().strip('$').strip()
  if choices.count(_normalize(answer)) == 1:
    return LETTERS[choices.index(_normalize(answer))]
  if match := LETTER.fullmatch(answer):
    letter, text = match[1].upper(), _normalize(match[2] or '')
    n = LETTERS.index(letter)
    if n < len(choices) and text in ('', choices[n]):
      return letter
  return None


def _normalize(text):
  return ' '.join(text.casefold().strip(' .$').split())
