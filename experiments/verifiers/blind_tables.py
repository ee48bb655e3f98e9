"""Measures the verifiers and text rewards on tables whose authors had not read
the code (the folder `blind`): false rejects and false accepts by kind.

`python -m experiments.verifiers.blind_tables [mathematics] [texts] [programs]`
"""

import argparse
import collections
import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Iterable, Iterator

from r1jax import errors
from r1jax.data import record_files
from r1jax.rewards import format, language, registry, verdict, verifiers

FOLDER = pathlib.Path(__file__).parent / 'blind'
CONFIG = verdict.VerifyConfig()
FORMATS = dict(
  format=format.format_reward, think_format=format.think_format_reward
)


@dataclasses.dataclass(frozen=True)
class Case:
  """A row, and how it was judged: right, wrong, or left_out."""

  kind: str
  expected: str
  found: str
  row: dict

  @property
  def is_false_accept(self) -> bool:
    return self.found == 'right' != self.expected

  @property
  def is_false_reject(self) -> bool:
    return self.found != self.expected and not self.is_false_accept


def rows(name: str) -> list[dict]:
  """The rows of a table."""
  lines = (FOLDER / f'{name}.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def mathematics() -> Iterator[Case]:
  """Answers to plain gold answers."""
  table = rows('mathematics')
  records = [dict(prompt='?', answer=row['gold']) for row in table]
  texts = [row['response'] for row in table]
  for row, value in zip(table, _accuracy(records, texts)):
    yield Case(row['kind'], _word(row['right']), _word(value == 1), row)


def texts() -> Iterator[Case]:
  """Choices, languages and formats. A share of language is right within the
  row's bounds."""
  table = rows('texts')
  choices = [row for row in table if row['task'] == 'choice']
  values = _accuracy(
    [row['record'] for row in choices], [row['response'] for row in choices]
  )
  for row, value in zip(choices, values):
    yield Case('choice', _word(row['right']), _word(value == 1), row)
  for row in table:
    task, text = row['task'], row['response']
    if row.get('prompt_opens_think'):
      text = '<think>' + text
    if task == 'language':
      record = row['record'] | dict(id='r', language=row['language'])
      share = float(language.language([record], [text])[0])
      is_within = row['low'] <= share <= row['high']
      yield Case('language', 'right', _word(is_within), row)
    elif task in FORMATS:
      is_right = FORMATS[task]([row['record']], [text])[0] == 1
      yield Case(task, _word(row['right']), _word(is_right), row)


def programs() -> Iterator[Case]:
  """Programs for tests, also of rows as LiveCodeBench and Codeforces have
  them. A row that cannot be judged is left out."""
  table, records, judged = rows('programs'), [], []
  for row in table:
    try:
      (record,) = _read(row['row'])
    except (errors.UserError, ValueError):
      yield Case(row['kind'], row['expected'], 'left_out', row)
      continue
    records.append(record)
    judged.append(row)
  values = _accuracy(records, [row['response'] for row in judged])
  for row, value in zip(judged, values):
    yield Case(row['kind'], row['expected'], _word(value == 1), row)


TABLES = dict(mathematics=mathematics, texts=texts, programs=programs)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('tables', nargs='*', default=list(TABLES))
  for name in parser.parse_args().tables:
    print(f'{name}: {summary(TABLES[name]())}')


def summary(cases: Iterable[Case]) -> str:
  """The counts of a table, and a line for each kind with an error."""
  by_kind = collections.defaultdict(list)
  for case in cases:
    by_kind[case.kind].append(case)
  by_kind['all'] = [case for kind in by_kind.values() for case in kind]
  lines = []
  for kind, own in by_kind.items():
    rejects = sum(case.is_false_reject for case in own)
    accepts = sum(case.is_false_accept for case in own)
    right = sum(case.expected == 'right' for case in own)
    if rejects or accepts or kind == 'all':
      lines.append(
        f'{kind}: {rejects} false rejects of {right}, {accepts} false accepts '
        f'of {len(own) - right}'
      )
  return '\n  '.join(reversed(lines))


def _accuracy(records, texts):
  records = [row | dict(id=f'blind/{n}') for n, row in enumerate(records)]
  registry.check_rewards({'accuracy': 1.0}, records)
  with verifiers.Verifiers(CONFIG, records) as judges:
    return [verdict.value for verdict in judges.verdicts(records, texts)]


def _read(row):
  """The records of a data file that holds the row alone."""
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / 'row.jsonl'
    file.write_text(json.dumps({'id': 'row', **row}))
    records = record_files.read(file)
  registry.check_rewards({'accuracy': 1.0}, records)
  return records


def _word(is_right):
  return 'right' if is_right else 'wrong'


if __name__ == '__main__':
  main()
