"""The cold start's data from R1-Zero's own correct responses (R1, B.3.2): the
thinking translated into the question's language, the bare answer made into a
sentence. `python -m experiments.mini_r1.rewrite FROM TO`

A dictionary does here what the paper has DeepSeek-V3 and people do.
"""

import pathlib
import re
import sys

from experiments.mini_r1 import world
from r1jax import files
from r1jax.data import record_files
from r1jax.rewards import language
from r1jax.rewards.math import grading

MEANING = {
  word: n for words in world.NUMBERS.values() for n, word in enumerate(words)
}
NUMBER = re.compile('|'.join(map(re.escape, MEANING)))


def rewrite(record):
  thought = record['response'].partition('</think>')[0]
  spoken = language.target(record)
  numbers = [world.NUMBERS[spoken][MEANING[x]] for x in NUMBER.findall(thought)]
  answer = grading.extract(record['response'])
  response = world.tagged(''.join(numbers), world.solution(answer, spoken))
  return record | dict(response=response)


def main(source, target):
  if pathlib.Path(target).exists():
    print(f'{target} is finished: it was made from {source}')
    return
  records = [rewrite(record) for record in record_files.read(source)]
  files.write_jsonl(pathlib.Path(target), records)
  print(f'{target}: {len(records)} records of {source}, rewritten')


if __name__ == '__main__':
  main(*sys.argv[1:])
