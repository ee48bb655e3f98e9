"""Records from jsonl files, the held-out split, and the order of prompts."""

import codecs
import collections
import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from r1jax import errors, user_code
from r1jax.data import formats, gym_tasks
from r1jax.data.bad_records import BadRecords
from r1jax.data.formats import Record

# The keys by which the first line of a file tells its format, tried in order.
# Unless a format has a reader, they are those of the prompt and the answer.
FORMATS = dict(
  r1jax=('prompt',),  # all other keys are kept, 'answer' among them
  aime=('problem', 'answer'),
  mawps=('input', 'target'),
  gsm8k=('question', 'answer'),  # and MATH-500: the answer is a solution
  livecodebench=('question_content', 'public_test_cases'),
  codeforces=('description', 'official_tests'),
)
GOLD_MARKS = '####', 'The answer is:'  # of GSM8K and of MATH-500


def read(path: str | Path, bad: BadRecords | None = None) -> list[Record]:
  """The records of a jsonl file of one of FORMATS, or of HumanEval. A line
  without an id gets its task_id, or <file stem>/<line number>. MAWPS repeats
  questions: the first is kept. Problems that cannot be judged are left out and
  counted in a line on stdout. Lines that are no records are noted in `bad`, or
  else raise UserError."""
  noted = bad or BadRecords(key='')
  name, records = '', dict[str, Record]()
  left_out = collections.Counter[str]()
  for number, where, row in json_rows(path, noted):
    with noted.noted(f'line {number}'):
      name = name or _format_name(row, where)
      try:
        record = _record(row, name, where)
      except formats.LeftOut as problem:
        left_out[str(problem)] += 1
        continue
      if name not in formats.READERS:  # task_id is HumanEval's
        default = row.get('task_id', f'{Path(path).stem}/{number}')
        record['id'] = str(row.get('id', default))
      key = record['prompt' if name == 'mawps' else 'id']
      if key in records and name != 'mawps':
        raise errors.UserError(
          f'{where}: an earlier line has the id {key!r} too'
        )
      records.setdefault(key, record)
  if noted.found and not name:  # not one line has a known format
    raise errors.UserError(noted.found[0][1])
  if not bad:
    noted.finish(len(records), str(path))
  if left_out:
    _report_left_out(path, left_out, len(records))
  if not records and not noted.found:
    raise errors.UserError(f'{path} has no records: it is empty')
  return list(records.values())


def _report_left_out(path, left_out, count):
  """Prints why problems cannot be judged. Raises UserError if none is left."""
  reasons = [f'{number}: {reason}' for reason, number in left_out.items()]
  sentence = (
    f'{path}: left out {left_out.total()} of {left_out.total() + count} '
    f'problems, which cannot be judged ({"; ".join(reasons)})'
  )
  if not count:
    raise errors.UserError(f'{sentence}; no problem is left')
  print(sentence, flush=True)


def own_record(row: dict, where: str, default_id: str) -> Record:
  """A dict of the user's as a record: with the id `default_id` if it has none,
  and its answer as text. Raises UserError, which begins with `where`."""
  plain = {
    key: value.item() if isinstance(value, np.generic) else value
    for key, value in row.items()
  }
  if callable(plain.get('scorer')):
    plain['scorer'] = user_code.name_of(plain['scorer'])
  for key, value in plain.items():
    with errors.explained(f'{where}: {key!r} is not JSON', TypeError):
      json.dumps(value)
  record = _record(plain, 'r1jax', where)
  return record | dict(id=str(row.get('id', default_id)))


def scorer_code(records: Sequence[Record]) -> dict[str, str]:
  """{file, module or package: its digest or version} of the records' scorers,
  as this process has loaded them (see rewards/scorer.py). The records must have
  passed registry.check_rewards."""
  scorers = [x['scorer'] for x in records if 'scorer' in x]
  names = [x for x in dict.fromkeys(scorers) if user_code.is_name(x)]
  code = user_code.digests(names)
  if any(name.startswith(gym_tasks.PREFIX) for name in scorers):
    code[gym_tasks.PACKAGE] = gym_tasks.version()
  return code


def json_rows(
  path: str | Path, bad: BadRecords | None = None
) -> Iterator[tuple[int, str, dict]]:
  """(line number, 'FILE line N', object) of each line that is not blank. A line
  that is not a JSON object is noted in `bad`, or else raises UserError, as a
  missing file does."""
  if not Path(path).is_file():
    raise errors.UserError(f'there is no data file {path}')
  data = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
  for number, line in enumerate(data.split(b'\n'), 1):
    if not line.strip():
      continue
    where, row = f'{path} line {number}', None
    with bad.noted(f'line {number}') if bad else contextlib.nullcontext():
      row = _json_object(line, where)
    if row is not None:
      yield number, where, row


def _json_object(line, where):
  with errors.explained(f'{where} is not JSON'):
    row = json.loads(line)
    if b'\\ud' in line.lower():  # lone surrogates cannot be encoded
      json.dumps(row, ensure_ascii=False).encode()
  if not isinstance(row, dict):
    raise errors.UserError(f'{where} is not a JSON object with keys')
  return row


def split(
  records: Sequence[Record], held_out: int, seed: int
) -> tuple[list[Record], list[Record]]:
  """(training, held-out records): all records of `held_out` prompts, which are
  chosen by a hash of text and seed, independently of the records' order."""
  salt = str(seed).encode()[:16]
  prompts = sorted(
    {record['prompt'] for record in records},
    key=lambda text: hashlib.blake2b(text.encode(), salt=salt).digest(),
  )
  if not 0 <= held_out < len(prompts):
    raise errors.UserError(
      f'cannot hold out {held_out} of {len(prompts)} different prompts: hold '
      'out fewer, so that some are left to train on'
    )
  chosen = set(prompts[:held_out])
  return (
    [record for record in records if record['prompt'] not in chosen],
    [record for record in records if record['prompt'] in chosen],
  )


def prompt_indices(seed: int, start: int, count: int, size: int) -> np.ndarray:
  """Elements `start` to `start + count` of an endless stream of permutations of
  0 to size - 1: a pure function, so that a resumed run continues anywhere."""
  assert size > 0 and start >= 0
  position = np.arange(start, start + count)
  index = np.empty(count, np.int64)
  for epoch in np.unique(position // size):
    # Philox's raw stream is stable; numpy's `permutation` may change.
    order = np.random.Philox(key=[seed, epoch]).random_raw(size).argsort()
    in_epoch = position // size == epoch
    index[in_epoch] = order[position[in_epoch] % size]
  return index


def _format_name(row, where):
  for name, keys in FORMATS.items():
    if row.keys() >= set(keys):
      return name
  known = ' or '.join('/'.join(keys) for keys in FORMATS.values())
  raise errors.UserError(
    f'{where} has the keys {", ".join(row) or "none"}; expected {known}'
  )


def _record(row, name, where):
  """A row as a record, which may still need an id."""
  if name in formats.READERS:
    with errors.explained(f'{where} cannot be read as a problem of {name}'):
      try:
        return formats.READERS[name](row)
      except formats.LeftOut as problem:
        left_out = problem
    raise left_out
  for key in FORMATS[name]:
    if key not in row:
      raise errors.UserError(f'{where} has no key {key!r}')
  prompt_key, answer_key = (*FORMATS[name], 'answer')[:2]
  prompt = row[prompt_key]
  if not isinstance(prompt, str) or not prompt.strip():
    raise errors.UserError(f'{where}: {prompt_key!r} must be a text, not blank')
  if name == 'r1jax' and 'answer' not in row:
    return row
  if 'scorer' in row:  # It may use all keys, and an answer of any kind.
    return row | dict(prompt=prompt)
  gold = _gold(row[answer_key])
  if gold is None:
    raise errors.UserError(f'{where}: {answer_key!r} must be text or a number')
  if name == 'r1jax':
    return row | dict(answer=gold)
  if name == 'gsm8k':
    gold = _gold_of_solution(gold, where)
  return dict(prompt=prompt, answer=gold)


def _gold(value):
  """A text or a number as text, 14.0 as '14'; None for anything else."""
  if isinstance(value, str):
    return value.strip()
  if type(value) not in (int, float) or not math.isfinite(value):
    return None
  return str(int(value)) if value == int(value) else repr(value)


def _gold_of_solution(solution, where):
  for mark in GOLD_MARKS:
    _, found, gold = solution.rpartition(mark)
    if found and gold.strip():
      return gold.strip()
  raise errors.UserError(
    f'{where}: the answer ends with neither "#### …" (GSM8K) nor "The answer '
    'is: …" (MATH-500); a file of plain answers has the key "prompt"'
  )
