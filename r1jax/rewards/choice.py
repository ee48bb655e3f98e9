r"""Multiple choice: the reward and the verifier. A record has `choices`, a list
of texts, and as its `answer` a letter, or several ('AC', 'A, C').

The final answer is found as in mathematics: the boxes of the answer part, or the
content of <answer>. All of them must name the same choice. `choice_text` says
what names one: a letter is compared before the words of a choice.
"""

import numpy as np

from r1jax import errors
from r1jax.data import gold_answers
from r1jax.rewards import choice_text, format, verdict
from r1jax.rewards.choice_text import LETTERS
from r1jax.rewards.math import grading
from r1jax.rewards.verdict import Record, Records, Texts, Verdict


def choice(records: Records, texts: Texts) -> np.ndarray:
  """1 if the final answer names the record's choice, else 0; float32."""
  letters = map(letter_of, records, map(extract, texts))
  correct = [a == gold_letters(record) for a, record in zip(letters, records)]
  return np.array(correct, np.float32)


def check(record: Record) -> None:
  """Refuses a record whose `answer` is not made of letters of `choices`."""
  choices, name = record['choices'], f'record {record["id"]}'
  valid = isinstance(choices, list) and all(isinstance(x, str) for x in choices)
  if not valid or not 2 <= len(choices) <= len(LETTERS):
    raise errors.UserError(f'{name}: choices must be a list of 2 to 26 texts')
  letters, gold = LETTERS[: len(choices)], gold_letters(record)
  is_known = gold and len(set(gold)) == len(gold) and set(gold) <= set(letters)
  if not is_known:
    raise errors.UserError(
      f'{name}: the answer {record.get("answer")!r} must be a letter from A to '
      f"{letters[-1]}, or several as 'AC' or 'A, C'"
    )


def gold_letters(record: Record) -> str:
  """The letters of the record's answer in order: 'AC' for 'C, A'."""
  answer = record.get('answer')
  if not isinstance(answer, str):
    return ''
  return ''.join(sorted(answer.replace(',', '').replace(' ', '')))


class ChoiceVerifier(verdict.Verifier):
  """Compares the letters of choices."""

  @staticmethod
  def handles(record: Record) -> bool:
    return 'choices' in record

  @staticmethod
  def check(record: Record) -> None:
    check(record)

  @staticmethod
  def extract(text: str) -> str | None:
    return extract(text)

  def judge(self, records: Records, answers: Texts) -> list[Verdict]:
    verdicts = []
    for record, answer in zip(records, answers):
      letters, gold = letter_of(record, answer), gold_letters(record)
      named = f'the choice {letters}' if letters else 'no choice'
      reason = f'{verdict.quote(answer)} names {named}, the gold is {gold}'
      verdicts.append(verdict.equality(letters == gold, reason))
    return verdicts


def extract(text: str) -> str | None:
  r"""The final answer of a response: its different \boxed{}, one a line; without
  a box, the content of <answer>."""
  text, is_tagged = format.answer_part(text)
  boxes = [' '.join(box.split()) for box in gold_answers.find_boxes(text)]
  boxes = list(dict.fromkeys(boxes))
  if boxes:
    return '\n'.join(boxes) if len(boxes) <= grading.MAX_BOXES else None
  return text.strip() or None if is_tagged else None


def letter_of(record: Record, answer: str | None) -> str | None:
  """The letter that an extracted answer names; the letters in order if the
  record's answer has several; or None. All lines must name the same."""
  if answer is None or len(answer) > choice_text.MAX_CHARS:
    return None
  options = choice_text.read_options(record['choices'])
  is_single = len(gold_letters(record)) == 1
  read = choice_text.single if is_single else choice_text.several
  if letters := read(options, answer):
    return letters
  lines = answer.split('\n')
  named = [read(options, line) for line in lines if choice_text.says(line)]
  if len(set(named)) == 1:
    return named[0]
  return None if is_single else choice_text.joined(named)
