"""Compares the rewards of reasoning-gym's tasks with the tasks' own scorers:

  python -m experiments.verifiers.reasoning_gym [--count N] [--tasks NAME …]

Each problem is answered by its gold, or by a solution that its entry holds, and
by twelve wrong answers, inside <answer> tags. A table has for each task how
often reward and scorer agree, and how many golds earn 1. An empty answer is no
answer: it earns 0, although some scorers give 0.01 or 0.05 to it.
"""

import argparse
import dataclasses
import json
import re
import warnings
from collections.abc import Sequence

from r1jax.data import gym_tasks, tasks
from r1jax.rewards import verdict, verifiers

SEED = 5
WRONG = 12  # answers a problem
NOT_A_TASK = 'composite'  # it joins other tasks
TOLERANCE = 1e-12


@dataclasses.dataclass
class Row:
  """The counts of a task."""

  name: str
  golds: int = 0
  accepted: int = 0  # golds with reward 1
  wrong: int = 0  # other answers
  differ: int = 0  # rewards that are not the scorer's number
  right: int = 0  # other answers that the scorer accepts, and so the reward
  examples: list[str] = dataclasses.field(default_factory=list)


def problem_rows(name: str, count: int) -> tuple[list[dict], list, list[dict]]:
  """(records, golds, entries) of a task. A gold is None if there is none."""
  records = tasks.load_records(f'gym:{name}?count={count}', SEED)
  entries = list(map(gym_tasks.entry_of, records))
  return records, [_gold(entry) for entry in entries], entries


def wrong_answers(entry: dict, gold: str | None, other: str) -> list[str]:
  """WRONG texts, some of which the task's scorer may accept. `other` is the gold
  of another problem."""
  text = gold if gold is not None else 'none'
  lines, words = text.splitlines() or [''], text.split() or ['']
  numbers = re.findall(
    r'-?\d+(?:\.\d+)? *[-+*/]?[-+*/\d. ()]*', entry['question']
  )
  question = max(numbers, key=len, default='1 + 1').strip()
  answers = [
    '?',
    'x',
    entry['question'].strip()[:2000],
    question,
    other,
    text[:-1],
    f'{text} {text}',
    f'The answer is {text}',
    ' '.join(reversed(words)),
    '\n'.join(reversed(lines)),
    re.sub(r'\d', lambda match: str((int(match[0]) + 1) % 10), text) or '7',
    f'[{text}]',
  ]
  assert len(answers) == WRONG
  answers = [answer.strip() for answer in answers]
  # Not the gold again, as a word in reverse order is.
  return [f'no {n}' if x == text.strip() else x for n, x in enumerate(answers)]


def compare(name: str, count: int, config: verdict.VerifyConfig) -> Row:
  """The counts of a task."""
  row, scorer = Row(name), gym_tasks.dataset(name, size=count, seed=SEED)
  records, golds, entries = problem_rows(name, count)
  asked, answers, expected, kinds = [], [], [], []
  for n, (record, gold, entry) in enumerate(zip(records, golds, entries)):
    other = golds[(n + 1) % len(golds)] or 'none'
    own = [] if gold is None else [gold.strip()]
    for answer in [*own, *wrong_answers(entry, gold, other)]:
      is_gold = gold is not None and answer == gold.strip()
      kinds.append('gold' if is_gold else 'wrong')
      asked.append(record)
      answers.append(answer)
      expected.append(_score(scorer, answer, gym_tasks.entry_of(record)))
  texts = [f'<think>1</think>\n<answer>{x}</answer>' for x in answers]
  with verifiers.Verifiers(config, records) as opened:
    found = [x.value for x in opened.verdicts(asked, texts)]
  for kind, value, right, answer in zip(kinds, found, expected, answers):
    row.golds += kind == 'gold'
    row.accepted += kind == 'gold' and value == 1
    row.wrong += kind == 'wrong'
    row.right += kind == 'wrong' and value == 1
    if not abs(value - right) <= TOLERANCE:
      row.differ += 1
      row.examples.append(f'{answer[:60]!r}: {value} instead of {right}')
  return row


def report(rows: Sequence[Row]) -> str:
  """The table, with the tasks that differ below it."""
  lines = [
    'task                        answers  differ  golds  accepted  right'
  ]
  for row in rows:
    lines.append(
      f'{row.name:26} {row.golds + row.wrong:8} {row.differ:7} {row.golds:6} '
      f'{row.accepted:9} {row.right:6}'
    )
  names = 'golds', 'accepted', 'wrong', 'differ', 'right'
  total = {name: sum(getattr(row, name) for row in rows) for name in names}
  lines.append(f'{len(rows)} tasks: {json.dumps(total)}')
  for row in rows:
    lines += [f'{row.name}: {example}' for example in row.examples[:3]]
  return '\n'.join(lines)


def _gold(entry):
  """The gold answer, or a solution from the entry's metadata; None without."""
  if isinstance(entry['answer'], str):
    return entry['answer']
  metadata = entry['metadata']
  for key in ('example_answer', 'example_correct_answer', 'possible_answer'):
    value = metadata.get(key)
    if value is not None:
      return value if isinstance(value, str) else json.dumps(value)
  return None


def _score(scorer, answer, entry):
  """The number of the task's own scorer; 0 if it raises an exception."""
  try:
    return float(scorer.score_answer(answer, entry))
  except Exception:
    return 0.0


def main() -> None:
  from reasoning_gym import factory

  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--count', type=int, default=2, help='problems of a task')
  parser.add_argument('--tasks', nargs='*', default=[], help='all by default')
  parser.add_argument('--workers', type=int, default=0, help='0: one per core')
  options = parser.parse_args()
  warnings.simplefilter('ignore')
  names = options.tasks or sorted(set(factory.DATASETS) - {NOT_A_TASK})
  config = verdict.VerifyConfig(workers=options.workers, seconds=60.0)
  rows = []
  for name in names:
    rows.append(compare(name, options.count, config))
    print(dataclasses.asdict(rows[-1]), flush=True)
  print(report(rows))


if __name__ == '__main__':
  main()
