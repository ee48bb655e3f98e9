"""Cold-start data from correct responses of R1-Zero (R1, B.3.2).

The thinking is translated into the prompt's language by a dictionary, and the
answer becomes a sentence. The paper uses DeepSeek-V3 and human annotators.
`python -m experiments.mini_r1.rewrite SOURCE TARGET`
"""

import pathlib
import re
import sys

from experiments.mini_r1 import make_data
from r1jax import files
from r1jax.data import record_files
from r1jax.data.record_files import Record
from r1jax.rewards import language
from r1jax.rewards.math import grading

VALUES = {}  # word of a language: number
for words in make_data.NUMBERS.values():
  VALUES |= {word: n for n, word in enumerate(words)}
NUMBER = re.compile('|'.join(map(re.escape, VALUES)))


def rewrite(record: Record) -> Record:
  """The record with a readable response."""
  thought = record['response'].partition('</think>')[0]
  target = language.target(record)
  numbers = [VALUES[word] for word in NUMBER.findall(thought)]
  translated = ''.join(make_data.NUMBERS[target][n] for n in numbers)
  answer = grading.extract(record['response'])
  response = make_data.tagged(translated, make_data.solution(answer, target))
  return record | dict(response=response)


def main(source: str, target: str) -> None:
  if pathlib.Path(target).exists():
    print(f'{target} is finished: it was made from {source}')
    return
  records = [rewrite(record) for record in record_files.read(source)]
  files.write_jsonl(pathlib.Path(target), records)
  print(f'{target}: {len(records)} records of {source}, rewritten')


if __name__ == '__main__':
  main(*sys.argv[1:])
