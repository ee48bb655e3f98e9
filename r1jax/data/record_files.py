"""Records from files and datasets, the held-out split, and the order of
prompts."""

import collections
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r1jax import errors, user_code
from r1jax.data import formats, gym_tasks, record_forms, stored_records
from r1jax.data.bad_records import BadRecords
from r1jax.data.formats import Record
from r1jax.data.sources import columns, source_rows


def read(
  path: str | Path,
  bad: BadRecords | None = None,
  config_columns: Mapping[str, str] = {},
) -> list[Record]:
  """The records of a source (see sources/source_rows.py), whose rows have one of
  record_forms.FORMS. They are not in memory (see stored_records.py). A row
  without an id gets its task_id, or <name of the source>/<row number>. MAWPS
  repeats questions: the first is kept. Problems that cannot be judged are left
  out and counted in a line on stdout. Rows that are no records are noted in
  `bad`, or else raise UserError, which names all of them."""
  noted = bad or BadRecords(key='')
  records, names = list[Record](), set[str]()
  stored, stem = stored_records.RowFile(), source_rows.name_of(str(path))
  left_out = collections.Counter[str]()
  unknown: dict[str, None] = {}  # the keys of rows that have no form
  found = source_rows.read(str(path), noted, config_columns)
  for number, where, row in found:
    record = None
    with noted.noted(where.removeprefix(f'{path} ')):
      row = {k: columns.plain(x, where, k) for k, x in row.items()}
      form = record_forms.form_of(row)
      if not form:
        unknown |= dict.fromkeys(row)
      try:
        made = _with_id(row, form, where, f'{stem}/{number}')
      except formats.LeftOut as problem:
        left_out[str(problem)] += 1
        continue
      _note_place(noted, made['id'], where, stem, number)
      key = made['prompt' if form == 'mawps' else 'id']
      if key not in names:
        names.add(key)
        record = made
      elif form != 'mawps':
        raise errors.UserError(
          f'{where}: an earlier row has the id {key!r} too'
        )
    if record is not None:
      with errors.explained(f'{where} has values that are not JSON', TypeError):
        records.append(stored_records.store(stored, record))
  if unknown and not records and len(noted.found) > 1:
    raise errors.UserError(
      f'{path} has no records: its rows have the keys {", ".join(unknown)}; '
      f'expected {record_forms.EXPECTED}; {record_forms.NAME_COLUMNS}'
    )
  if not bad:
    noted.finish(len(records), str(path))
  if left_out:
    _report_left_out(path, left_out, len(records))
  if not records and not noted.found:
    raise errors.UserError(f'{path} has no records: it is empty')
  return records


def _with_id(row, form, where, default):
  """A row as a record with an id. Raises UserError or formats.LeftOut."""
  record = record_forms.make_record(row, where)
  if form in formats.READERS:
    return record
  default = record.get('task_id', default)  # HumanEval's
  return {**record, 'id': _name(record, default)}


def _name(record, default):
  """The id of a record as text, `default` if it has none."""
  name = record.get('id')
  return str(default if name in (None, '') else name)


def _note_place(noted, name, where, stem, number):
  """Notes where a record is: once for all that are named by their numbers."""
  place, _, row_number = where.rpartition(' ')
  if name == f'{stem}/{number}' == f'{stem}/{row_number}':
    noted.places[stem] = place
  else:
    noted.places[name] = where


def _report_left_out(path, left_out, count):
  """Prints why problems cannot be judged. Raises UserError if none is left."""
  reasons = [f'{number}: {reason}' for reason, number in left_out.items()]
  sentence = (
    f'{path}: left out {left_out.total()} of {left_out.total() + count} '
    f'problems, which cannot be judged ({"; ".join(reasons)})'
  )
  if not count:
    raise errors.UserError(f'{sentence}; no problem is left')
  print(errors.printable(sentence), flush=True)


def own_record(row: Mapping[str, Any], where: str, default_id: str) -> Record:
  """A dict of the user's as a record: with the id `default_id` if it has none,
  arrays as lists, and its answer as text. Raises UserError, which begins with
  `where`."""
  plain = {k: columns.plain(x, where, k) for k, x in row.items()}
  if callable(plain.get('scorer')):
    plain['scorer'] = user_code.name_of(plain['scorer'])
  for key, value in plain.items():
    with errors.explained(f'{where}: {key!r} is not JSON', TypeError):
      json.dumps(value)
  if not record_forms.form_of(plain):
    raise errors.UserError(
      f"{where} has no key 'prompt', nor another form of records: it has the "
      f'keys {", ".join(map(str, plain)) or "none"}'
    )
  try:
    record = record_forms.make_record(plain, where)
  except formats.LeftOut as problem:
    raise errors.UserError(f'{where} cannot be judged: {problem}') from None
  return {**record, 'id': _name(record, default_id)}


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


def split(
  records: Sequence[Record], held_out: int, seed: int
) -> tuple[list[Record], list[Record]]:
  """(training, held-out records): all records of `held_out` prompts, which are
  chosen by a hash of text and seed, independently of the records' order."""
  salt = str(seed).encode()[:16]
  # The order of the first 8 bytes is that of the whole digests.
  digest_N = np.array(
    [_prompt_digest(record['prompt'], salt) for record in records], np.uint64
  )
  prompts = np.unique(digest_N)  # in ascending order
  if not 0 <= held_out < len(prompts):
    raise errors.UserError(
      f'cannot hold out {held_out} of {len(prompts)} different prompts: hold '
      'out fewer, so that some are left to train on'
    )
  is_held_out_N = np.isin(digest_N, prompts[:held_out])
  pairs = list(zip(records, is_held_out_N.tolist()))
  return (
    [record for record, is_held_out in pairs if not is_held_out],
    [record for record, is_held_out in pairs if is_held_out],
  )


def _prompt_digest(prompt, salt):
  digest = hashlib.blake2b(prompt.encode(), salt=salt).digest()
  return int.from_bytes(digest[:8], 'big')


def prompt_indices(seed: int, start: int, count: int, size: int) -> np.ndarray:
  """Elements `start` to `start + count` of an endless stream of permutations of
  0 to size - 1: a pure function, so that a resumed run continues anywhere."""
  assert start >= 0
  return permuted(seed, np.arange(start, start + count), size)


def permuted(seed: int, position: np.ndarray, size: int) -> np.ndarray:
  """The elements of the stream of prompt_indices at some positions."""
  assert size > 0
  index = np.empty(len(position), np.int64)
  for epoch in np.unique(position // size):
    # Philox's raw stream is stable; numpy's `permutation` may change.
    order = np.random.Philox(key=[seed, epoch]).random_raw(size).argsort()
    in_epoch = position // size == epoch
    index[in_epoch] = order[position[in_epoch] % size]
  return index
