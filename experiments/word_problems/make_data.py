"""The data of the recipe, made from GSM8K and MAWPS.

`python -m experiments.word_problems.make_data DIR SOURCE` writes the rewritten
solutions, the training problems, and the held-out problems.
"""

import json
import pathlib
import re
import sys

from r1jax import errors, files
from r1jax.data import record_files
from r1jax.data.record_files import Record

MAX_STEPS = 3  # calculations of a solution that is trained on
MAX_CHARACTERS = 430  # of prompt and response
COLD_START = 1_800
HELD_OUT = 128  # problems of MAWPS; GSM8K has a test set
CALCULATION = re.compile(r'<<[^<>]*>>')
GOLD_LINE = re.compile(r'\s*####.*', re.DOTALL)


def rewrite(solution: str, answer: str) -> str:
  """A solution of GSM8K as a response: without the calculator annotations and
  the line of the gold answer, with the answer in a box."""
  thought = CALCULATION.sub('', GOLD_LINE.sub('', solution)).strip()
  return f'<think>\n{thought}\n</think>\n<answer>\\boxed{{{answer}}}</answer>'


def solved_records(path: pathlib.Path) -> list[Record]:
  """The short records of GSM8K, with the rewritten solution as response."""
  lines = path.read_bytes().strip().split(b'\n')
  records = []
  for record, line in zip(record_files.read(path), lines, strict=True):
    solution = json.loads(line)['answer']
    steps = len(CALCULATION.findall(solution))
    response = rewrite(solution, record['answer'])
    characters = len(record['prompt']) + len(response)
    if 1 <= steps <= MAX_STEPS and characters <= MAX_CHARACTERS:
      records.append(record | dict(response=response))
  return records


def make_data(source: pathlib.Path) -> dict[str, list[Record]]:
  """{name: records} of all data that the recipe reads."""
  gsm8k = solved_records(source / 'gsm8k_train.jsonl')
  mawps = record_files.read(source / 'mawps_singleop.jsonl')
  mawps, held_out_mawps = record_files.split(mawps, HELD_OUT, seed=0)
  keys = 'id', 'prompt', 'answer'
  unsolved = [{key: x[key] for key in keys} for x in gsm8k[COLD_START:]]
  return dict(
    cold_start=gsm8k[:COLD_START],
    problems=mawps + unsolved,
    held_out_gsm8k=record_files.read(source / 'gsm8k_test.jsonl'),
    held_out_mawps=held_out_mawps,
  )


def main(directory: str, source: str = '') -> None:
  path = pathlib.Path(directory)
  if (path / 'held_out_mawps.jsonl').exists():  # written last
    print(f'{path} is finished: it has the data')
    return
  if not source:
    raise errors.UserError(
      'give the directory that holds gsm8k_train.jsonl, gsm8k_test.jsonl and '
      'mawps_singleop.jsonl as the last argument'
    )
  for name, records in make_data(pathlib.Path(source)).items():
    files.write_jsonl(path / f'{name}.jsonl', records)
    print(f'{path / name}.jsonl: {len(records)} records')


if __name__ == '__main__':
  try:
    main(*sys.argv[1:])
  except errors.UserError as error:
    sys.exit(f'error: {error}')
