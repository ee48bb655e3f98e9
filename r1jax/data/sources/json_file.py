"""JSON lines and JSON arrays, as they are or compressed by gzip."""

import codecs
import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from r1jax import errors, experiment_files, files
from r1jax.data.bad_records import BadRecords
from r1jax.data.sources import json_array

GZIP = b'\x1f\x8b'
UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
# Files that r1jax does not read, by their names' ends.
OTHER_FORMATS = """.xlsx .xls .ods .zip .tar .tgz .bz2 .xz .zst .7z .pkl .npz
  .sqlite .db .orc .avro""".split()
# The first bytes of some of them, and of tables, whatever the name.
MAGIC = {
  b'PAR1': 'parquet',
  b'ARROW1': 'arrow',
  b'BZh': 'bzip2',
  b'\xfd7zXZ': 'xz',
  b'\x28\xb5\x2f\xfd': 'zstandard',
  b'PK\x03\x04': 'zip or xlsx',
}
MAX_OBJECT = 1 << 20  # bytes of a file in which its first object is looked for


def rows(
  path: str | Path, bad: BadRecords | None = None
) -> Iterator[tuple[int, str, dict]]:
  """(number, place, object) of each line that is not blank, or of each entry of
  a JSON array; the place is 'FILE line N' or 'FILE entry N'. What is not a JSON
  object is noted in `bad`, or else raises UserError, as a file does that is
  missing or of another format."""
  with opened(path) as file:
    start = file.tell()
    beginning = file.read(MAX_OBJECT)
    file.seek(start)
    _check_lines(path, beginning)
    items: Any = file
    word = 'line'
    if beginning.lstrip()[:1] == b'[' and not _is_lines(beginning):
      encoding = json.detect_encoding(beginning)
      text = io.TextIOWrapper(file, encoding, 'surrogatepass')
      items, word = _entries(path, text), 'entry'
    for number, item in enumerate(items, 1):
      if isinstance(item, bytes) and not item.strip():
        continue
      name, row = f'{word} {number}', None
      with bad.noted(name) if bad else contextlib.nullcontext():
        row = _json_object(item, f'{path} {name}')
      if row is not None:
        yield number, f'{path} {name}', row


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
  """A file as UTF-8, after its byte order mark, decompressed as it is read.
  Raises UserError for a file that is missing or of another format."""
  path = Path(path)
  _check_file(path)
  with contextlib.ExitStack() as stack:
    file: Any = stack.enter_context(open(path, 'rb'))
    if _beginning(file).startswith(GZIP):
      kinds = OSError, EOFError, zlib.error
      problem = f'{path} is not a complete gzip file'
      stack.enter_context(errors.explained(problem, kinds))
      file = stack.enter_context(gzip.open(file))
    beginning = _beginning(file)
    for magic, kind in MAGIC.items():
      if beginning.startswith(magic):
        raise errors.UserError(
          f'{path} is not text but {kind}: parquet and arrow are read by the '
          'end of the name, .parquet or .arrow, without gzip; decompress other '
          'files'
        )
    if beginning.startswith(UTF_16):
      with errors.explained(f'{path} is not text in UTF-16', UnicodeError):
        file = io.BytesIO(file.read().decode('utf-16').encode())
    if beginning.startswith(codecs.BOM_UTF8):
      file.seek(len(codecs.BOM_UTF8))
    yield file


def _beginning(file):
  """The first bytes of a file, which is at its beginning again."""
  beginning = file.read(len(max(MAGIC, key=len)))
  file.seek(0)
  return beginning


def _check_file(path):
  """Raises UserError for a file that is missing or of another format."""
  if path.is_file() and path.suffix.lower() in OTHER_FORMATS:
    raise errors.UserError(
      f'{path}: records are read from JSON lines (.jsonl, .jsonl.gz), JSON '
      'arrays (.json), .csv, .tsv, .parquet and .arrow, not from '
      f"{path.suffix}: convert it, for example by pandas' to_parquet"
    )
  if not path.is_file():
    hint = experiment_files.how_to_get(path) or experiment_files.near(path)
    raise errors.UserError(f'there is no data file {path}{hint}')
  files.check_is_no_pointer(path)


def _check_lines(path, beginning):
  """Raises UserError if the first JSON object has several lines."""
  start = beginning.lstrip()
  first = start.partition(b'\n')[0]
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


def _is_lines(beginning):
  """Whether the first line of a file is a whole array, and not the only one."""
  first, _, rest = beginning.strip().partition(b'\n')
  if not rest.strip():
    return False
  with contextlib.suppress(ValueError, RecursionError):
    json.loads(first)
    return True
  return False


def _entries(path, file):
  """The entries of a JSON array. Raises UserError where it is none."""
  decoder = json.JSONDecoder(object_pairs_hook=_once)
  try:
    with errors.explained(f'{path} has a key twice in an object', KeyError):
      yield from json_array.entries(file, decoder)
  except (ValueError, RecursionError) as error:
    raise errors.UserError(
      f'{path} begins as a JSON array and is not one ({error}): is it complete?'
    ) from None


def _once(pairs):
  """The dict of the pairs of a JSON object. Raises KeyError if two have one
  key, of which Python's json would keep the last."""
  row = dict(pairs)
  if len(row) < len(pairs):
    keys = [key for key, _ in pairs]
    raise KeyError(next(key for key in keys if keys.count(key) > 1))
  return row


def _json_object(item, where):
  """The JSON object of a line, or the entry of an array if it is one."""
  row = item
  if isinstance(item, bytes):
    twice = errors.explained(f'{where} has a key twice in an object', KeyError)
    not_json = (ValueError, RecursionError)
    with twice, errors.explained(f'{where} is not JSON', not_json):
      row = json.loads(item, object_pairs_hook=_once)
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
