"""GSM8K and MAWPS as the recipe reads them: the training solutions rewritten
into thinking and answer, problems to learn from, and problems held out.
`python -m experiments.word_problems.world DIR SOURCE`"""

import json
import pathlib
import re
import sys

from r1jax import errors, files
from r1jax.data import record_files

STEPS = 3  # of a solution that is learnt from, at most
CHARACTERS = 430  # of a question and its response, at most
COLD = 1_800
HELD_OUT = 128  # problems of MAWPS; GSM8K has a test set of its own
MARK = re.compile(r'<<[^<>]*>>')
GOLD = re.compile(r'\s*####.*', re.DOTALL)


def rewrite(solution, answer):
  """GSM8K's solution as a response: its calculator marks and the line with the
  gold are gone, the answer stands in a box."""
  thought = MARK.sub('', GOLD.sub('', solution)).strip()
  return f'<think>\n{thought}\n</think>\n<answer>\\boxed{{{answer}}}</answer>'


def solved(path):
  """GSM8K's short records, each with its rewritten solution as response."""
  lines = path.read_bytes().strip().split(b'\n')
  found = []
  for record, line in zip(record_files.read(path), lines, strict=True):
    solution = json.loads(line)['answer']
    response = rewrite(solution, record['answer'])
    size = len(record['prompt']) + len(response)
    if 1 <= len(MARK.findall(solution)) <= STEPS and size <= CHARACTERS:
      found.append(record | dict(response=response))
  return found


def made(source):
  """{name: records} of everything that the recipe reads."""
  short = solved(source / 'gsm8k_train.jsonl')
  mawps = record_files.read(source / 'mawps_singleop.jsonl')
  mawps, held = record_files.split(mawps, HELD_OUT, seed=0)
  keys = 'id', 'prompt', 'answer'
  unsolved = [{key: x[key] for key in keys} for x in short[COLD:]]
  return dict(
    cold=short[:COLD],
    problems=mawps + unsolved,
    held_gsm8k=record_files.read(source / 'gsm8k_test.jsonl'),
    held_mawps=held,  # the last to be written
  )


def main(directory, source=''):
  directory = pathlib.Path(directory)
  if (directory / 'held_mawps.jsonl').exists():
    print(f'{directory} is finished: the data are there')
    return
  if not source:
    raise errors.UserError(
      'give the directory that holds gsm8k_train.jsonl, gsm8k_test.jsonl and '
      'mawps_singleop.jsonl as the last argument'
    )
  for name, records in made(pathlib.Path(source)).items():
    files.write_jsonl(directory / f'{name}.jsonl', records)
    print(f'{directory / name}.jsonl: {len(records)} records')


if __name__ == '__main__':
  try:
    main(*sys.argv[1:])
  except errors.UserError as error:
    sys.exit(f'error: {error}')
