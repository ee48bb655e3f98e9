"""Records from files of JSON, the held-out split, and the order of prompts."""

import codecs
import collections
import contextlib
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from r1jax import errors, files, user_code
from r1jax.data import formats, gym_tasks, record_forms
from r1jax.data.bad_records import BadRecords
from r1jax.data.formats import Record

GZIP = b'\x1f\x8b'
UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
# Files that r1jax does not read, by their names' ends.
MAX_OBJECT = 1 << 20  # bytes of a file in which its first object is looked for
OTHER_FORMATS = """.parquet .arrow .csv .tsv .xlsx .zip .tar .tgz .bz2 .xz .zst
  .7z .pkl .npz""".split()


def read(path: str | Path, bad: BadRecords | None = None) -> list[Record]:
  """The records of a file of JSON lines or of one JSON array, as it is or
  compressed by gzip, whose rows have one of record_forms.FORMS. A row without
  an id gets its task_id, or <file stem>/<line number>. MAWPS repeats questions:
  the first is kept. Problems that cannot be judged are left out and counted in
  a line on stdout. Rows that are no records are noted in `bad`, or else raise
  UserError, which names all of them."""
  noted = bad or BadRecords(key='')
  records, stem = dict[str, Record](), name_of(path)
  left_out = collections.Counter[str]()
  for number, where, row in json_rows(path, noted):
    with noted.noted(where.removeprefix(f'{path} ')):
      try:
        record = record_forms.make_record(row, where)
      except formats.LeftOut as problem:
        left_out[str(problem)] += 1
        continue
      form = record_forms.form_of(row)
      if form not in formats.READERS:  # task_id is HumanEval's
        default = record.get('task_id', f'{stem}/{number}')
        record['id'] = str(record.get('id', default))
      if record['id'] != f'{stem}/{number}':
        noted.places[record['id']] = where
      else:  # The number is that of the line.
        noted.places[stem] = where.rpartition(' ')[0]
      key = record['prompt' if form == 'mawps' else 'id']
      if key in records and form != 'mawps':
        raise errors.UserError(
          f'{where}: an earlier line has the id {key!r} too'
        )
      records.setdefault(key, record)
  if not bad:
    noted.finish(len(records), str(path))
  if left_out:
    _report_left_out(path, left_out, len(records))
  if not records and not noted.found:
    raise errors.UserError(f'{path} has no records: it is empty')
  return list(records.values())


def name_of(path: str | Path) -> str:
  """The name of a data file without .jsonl or .jsonl.gz."""
  return Path(Path(path).name.removesuffix('.gz')).stem


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
  if not record_forms.form_of(plain):
    raise errors.UserError(
      f"{where} has no key 'prompt', nor another form of records: it has the "
      f'keys {", ".join(map(str, plain)) or "none"}'
    )
  try:
    record = record_forms.make_record(plain, where)
  except formats.LeftOut as problem:
    raise errors.UserError(f'{where} cannot be judged: {problem}') from None
  return record | dict(id=str(record.get('id', default_id)))


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
  """(number, place, object) of each line that is not blank, or of each entry of
  a JSON array; the place is 'FILE line N' or 'FILE entry N'. What is not a JSON
  object is noted in `bad`, or else raises UserError, as a file does that is
  missing or of another format."""
  data = _read_bytes(path)
  _check_lines(path, data)
  rows = _entries(path, data) if data.lstrip()[:1] == b'[' else None
  word = 'line' if rows is None else 'entry'
  items = data.split(b'\n') if rows is None else rows
  for number, item in enumerate(items, 1):
    if rows is None and not item.strip():
      continue
    where, row = f'{path} {word} {number}', None
    name = f'{word} {number}'
    with bad.noted(name) if bad else contextlib.nullcontext():
      row = _json_object(item, where)
    if row is not None:
      yield number, where, row


def _read_bytes(path):
  """The content of a file as UTF-8, without compression and byte order mark."""
  path = Path(path)
  if path.is_file() and path.suffix.lower() in OTHER_FORMATS:
    raise errors.UserError(
      f'{path}: records are read from JSON lines (.jsonl, .jsonl.gz) and JSON '
      f'arrays (.json), not from {path.suffix}: convert it, for example by '
      "pandas' to_json(orient='records', lines=True)"
    )
  if path.is_dir():
    raise errors.UserError(
      f'there is no data file {path}: it is a directory; name a file in it'
    )
  if not path.is_file():
    raise errors.UserError(f'there is no data file {path}')
  files.check_is_no_pointer(path)
  data = path.read_bytes()
  if data.startswith(GZIP):
    kinds = OSError, EOFError, zlib.error
    with errors.explained(f'{path} is not a complete gzip file', kinds):
      data = gzip.decompress(data)
  if data.startswith(UTF_16):
    with errors.explained(f'{path} is not text in UTF-16', UnicodeError):
      data = data.decode('utf-16').encode()
  return data.removeprefix(codecs.BOM_UTF8)


def _check_lines(path, data):
  """Raises UserError if the first JSON object has several lines."""
  start, first = data.lstrip()[:MAX_OBJECT], data.strip().partition(b'\n')[0]
  if start[:1] != b'{':
    return
  with contextlib.suppress(ValueError, RecursionError):
    json.loads(first)
    return
  text, end = start.decode(errors='replace'), 0
  with contextlib.suppress(ValueError, RecursionError):
    _, end = json.JSONDecoder().raw_decode(text)
  if '\n' in text[:end]:
    raise errors.UserError(
      f'{path} begins with a JSON object of several lines: write each record '
      'on one line (.jsonl), or all of them as one JSON array'
    )


def _entries(path, data):
  """The entries of a JSON array; None for lines that are arrays."""
  try:
    return json.loads(data)
  except (ValueError, RecursionError) as error:
    first, _, rest = data.strip().partition(b'\n')
    with contextlib.suppress(ValueError, RecursionError):
      json.loads(first)
      if rest.strip():
        return None
    raise errors.UserError(
      f'{path} begins as a JSON array and is not one ({error}): is it complete?'
    ) from None


def _json_object(item, where):
  """The JSON object of a line, or the entry of an array if it is one."""
  row = item
  if isinstance(item, bytes):
    with errors.explained(f'{where} is not JSON'):
      row = json.loads(item)
  if not isinstance(row, dict):
    raise errors.UserError(f'{where} is not a JSON object with keys')
  if not isinstance(item, bytes) or b'\\ud' in item.lower():
    try:
      json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
      half = error.object[error.start].encode('unicode_escape').decode()
      raise errors.UserError(
        f'{where} is not JSON of Unicode text: it has {half}, one half of a pair '
        'that stands for one character (a lone surrogate): leave it out'
      ) from None
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
