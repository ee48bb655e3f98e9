"""Which samples of a problem give the same answer, so that their votes add up.

Answers are alike by the rules that judge their accuracy:

- Samples with different verdicts are never alike.
- Mathematics: right answers are alike. Wrong answers are alike if the verifier
  finds each equal to the other as the gold.
- Choices: answers that name the same letter are alike.
- Records with their own scorer: answers of the same text are alike, up to
  spaces, since a task may have several right answers.
- Programs have no votes.

Equality is not always transitive: 5 cm and 5 m both equal 5. The answer that
most samples give is the first representative; an answer joins the first
representative that it equals.
"""

import collections
from collections.abc import Sequence

from r1jax.data import gold_answers
from r1jax.rewards import choice, scorer
from r1jax.rewards.code.verifier import ProgramVerifier
from r1jax.rewards.verdict import Record, Records, Texts
from r1jax.rewards.verifiers import Verifiers

# Representatives of a problem with which its other wrong answers are compared.
MAX_COMPARED = 16

Key = tuple[float, str]  # (accuracy, text)


class Problem:
  """The answers of a problem's samples as keys. leader[key] is the key that
  represents it: itself until it joins another."""

  def __init__(
    self,
    verifiers: Verifiers,
    record: Record,
    answers: Sequence[str | None],
    accuracy: Sequence[float],
  ) -> None:
    self.record, verifier = record, verifiers.verifier_of(record)
    has_text = choice.ChoiceVerifier, scorer.ScorerVerifier
    has_value = not isinstance(verifier, has_text)
    self.keys: list[Key | None] = []
    for answer, value in zip(answers, accuracy, strict=True):
      if answer is None:
        self.keys.append(None)
        continue
      text = ' '.join(answer.split())
      if isinstance(verifier, choice.ChoiceVerifier):
        text = choice.letter_of(record, answer) or text
      if has_value:
        boxes = gold_answers.find_boxes(text)  # of an answer in several forms
        text = boxes[-1] if boxes else text
        if value == 1:
          text = ''  # All of them equal the gold.
      self.keys.append((value, text))
    votes = collections.Counter(key for key in self.keys if key)
    ordered = [key for key, _ in votes.most_common()]  # first ones on ties
    self.leader = {key: key for key in ordered}
    # Wrong values that may equal another.
    self.waiting = [key for key in ordered if has_value and key[1]]

  def groups(self) -> list[int | None]:
    """For each sample the number of the first one with the same answer."""
    first: dict[Key, int] = {}
    found: list[int | None] = []
    for n, key in enumerate(self.keys):
      found.append(first.setdefault(self.leader[key], n) if key else None)
    return found


def can_vote(verifiers: Verifiers, record: Record) -> bool:
  """Whether answers to a record have votes: all but programs."""
  return not isinstance(verifiers.verifier_of(record), ProgramVerifier)


def groups(
  verifiers: Verifiers,
  records: Records,
  texts: Texts,
  accuracy: Sequence[float],
  samples: int,
) -> list[int | None]:
  """For each text the number, among the `samples` of its problem, of the first
  sample with the same answer; None without an answer, and for programs. The
  samples of a problem are adjacent."""
  problems = []
  for start in range(0, len(texts), samples):
    record = records[start]
    answers: list[str | None] = [None] * samples
    if can_vote(verifiers, record):
      own = texts[start : start + samples]
      answers = [verifiers.final_answer(record, text) for text in own]
    values = accuracy[start : start + samples]
    problems.append(Problem(verifiers, record, answers, values))
  _join_equal_values(verifiers, problems)
  found = []
  for problem in problems:
    found += problem.groups()
  return found


def _join_equal_values(verifiers, problems):
  """In each round, the first waiting answer of every problem is compared with
  the others, which wait no longer if they equal it."""
  for _ in range(MAX_COMPARED):
    pairs = []
    for problem in problems:
      if problem.waiting:
        leader, *problem.waiting = problem.waiting
        pairs += [(problem, key, leader) for key in problem.waiting]
    equal = _equal_pairs(verifiers, pairs)
    swapped = [(problem, leader, key) for problem, key, leader in equal]
    for problem, leader, key in _equal_pairs(verifiers, swapped):
      problem.leader[key] = leader
      problem.waiting.remove(key)


def _equal_pairs(verifiers, pairs):
  """The (problem, answer, gold) whose answer the verifier accepts if the other
  one is the gold."""
  records, texts = [], []
  for problem, (_, answer), (_, gold) in pairs:
    records.append(problem.record | dict(answer=gold))
    texts.append(rf'\boxed{{{answer}}}')
  verdicts = verifiers.verdicts(records, texts)
  return [pair for pair, x in zip(pairs, verdicts) if x.value == 1]
