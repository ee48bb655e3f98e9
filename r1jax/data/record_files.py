"""Records from files, prompts by index, rows padded to a few lengths."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np

from r1jax import errors
from r1jax.data import formats

# The keys that tell a file's shape: (prompt, gold answer).
SHAPES = (
  ('prompt',),  # our own; all other keys are kept, 'answer' among them
  ('problem', 'answer'),  # AIME
  ('input', 'target'),  # MAWPS
  ('question', 'answer'),  # GSM8K, MATH-500: the answer is a whole solution
  *formats.SHAPES,
)
GOLD_MARKS = '####', 'The answer is:'


def read(path):
  """Records of a jsonl file: our own, GSM8K, MATH-500, AIME, MAWPS, HumanEval,
  LiveCodeBench or Codeforces.

  The shape is told by the first line's keys. An id that a line lacks is its
  task_id, or <file stem>/<line number>. A question that MAWPS repeats is read
  once.
  """
  path = Path(path)
  if not path.is_file():
    raise errors.UserError(f'there is no data file {path}')
  shape, records = None, {}
  for number, line in enumerate(path.read_bytes().split(b'\n'), 1):
    if not line.strip():
      continue
    where = f'{path} line {number}'
    row = _row(line, where)
    shape = shape or _shape(row, where)
    if shape in formats.SHAPES:
      record = formats.record(row, shape, where)
      row = dict(row, id=record['id'])
    else:
      record = _record(row, shape, where)
    name = row.get('task_id', f'{path.stem}/{number}')  # HumanEval's
    record['id'] = str(row.get('id', name))
    repeats = shape[0] == 'input'
    key = record['prompt'] if repeats else record['id']
    if key in records and not repeats:
      raise errors.UserError(f'{where}: the id {key!r} stands there twice')
    records.setdefault(key, record)
  if not records:
    raise errors.UserError(f'{path} has no records: it is empty')
  return list(records.values())


def split(records, held_out, seed):
  """(train, held): all records of `held_out` prompts drawn by hash are held.

  Which prompts are held depends on their text and the seed, not on the order.
  """
  salt = str(seed).encode()

  def digest(text):
    return hashlib.blake2b(text.encode(), salt=salt[:16]).digest()

  prompts = sorted({record['prompt'] for record in records}, key=digest)
  if not 0 <= held_out < len(prompts):
    raise errors.UserError(
      f'cannot hold out {held_out} of {len(prompts)} different prompts: '
      'hold out fewer, so that some are left to train on'
    )
  held = set(prompts[:held_out])
  return (
    [record for record in records if record['prompt'] not in held],
    [record for record in records if record['prompt'] in held],
  )


def prompt_indices(seed, start, count, size):
  """Indices `start` to `start + count` of an endless stream of permutations.

  A pure function of seed and position: a resumed run asks again by index.
  """
  assert size > 0 and start >= 0
  position = np.arange(start, start + count)
  index = np.empty(count, np.int64)
  for epoch in np.unique(position // size):
    # Philox's raw stream never changes; numpy's `permutation` may.
    order = np.random.Philox(key=[seed, epoch]).random_raw(size).argsort()
    here = position // size == epoch
    index[here] = order[position[here] % size]
  return index


def _row(line, where):
  try:
    row = json.loads(line)
    if b'\\ud' in line.lower():  # half a surrogate pair is no text
      json.dumps(row, ensure_ascii=False).encode()
  except (ValueError, RecursionError) as error:
    raise errors.UserError(f'{where} is not JSON: {error}') from error
  if not isinstance(row, dict):
    raise errors.UserError(f'{where} is not a JSON object with keys')
  return row


def _shape(row, where):
  for shape in SHAPES:
    if set(shape) <= row.keys():
      return shape
  raise errors.UserError(
    f'{where} has the keys {", ".join(row) or "none"}; expected '
    + ' or '.join('/'.join(shape) for shape in SHAPES)
  )


def _record(row, shape, where):
  for key in shape:
    if key not in row:
      raise errors.UserError(f'{where} has no key {key!r}')
  prompt = row[shape[0]]
  if not isinstance(prompt, str) or not prompt.strip():
    raise errors.UserError(f'{where}: {shape[0]!r} must be a text, not blank')
  if shape == ('prompt',) and 'answer' not in row:
    return row
  gold = _gold(row['target' if shape[0] == 'input' else 'answer'])
  if gold is None:
    raise errors.UserError(f'{where}: {shape[-1]!r} must be a text or a number')
  if shape == ('prompt',):
    return {**row, 'answer': gold}
  if shape[0] == 'question':
    gold = _gold_of_solution(gold, where)
  return dict(prompt=prompt, answer=gold)


def _gold(value):
  """14.0 is read as '14'; None stands for what is neither text nor number."""
  if isinstance(value, bool) or not isinstance(value, (str, int, float)):
    return None
  if isinstance(value, str):
    return value.strip()
  if not math.isfinite(value):
    return None
  return str(int(value)) if value == int(value) else repr(value)


def _gold_of_solution(solution, where):
  for mark in GOLD_MARKS:
    _, found, gold = solution.rpartition(mark)
    if found and gold.strip():
      return gold.strip()
  raise errors.UserError(
    f'{where}: the answer ends with neither "#### …" (GSM8K) nor "The answer '
    'is: …" (MATH-500); a plain answer goes with the key "prompt"'
  )
