"""Records that are not in memory: their JSON is in a temporary file, and is read
when a key is asked for. So a run can use files and datasets of the hub that are
larger than memory; of a record about 300 bytes remain there.

The file is in $TMPDIR, or else in /var/tmp, since /tmp may be in memory. It has
no name, so it disappears with the process.
"""

import array
import json
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from r1jax import errors
from r1jax.data.formats import Record

MAX_MEMORY = 64 << 20  # bytes of rows that are kept without a file
FOLDER = '/var/tmp'


class RowFile(Sequence[Any]):
  """Values of JSON by number, outside memory if there are many."""

  def __init__(self) -> None:
    folder = os.environ.get('TMPDIR') or FOLDER
    if not os.path.isdir(folder):
      folder = tempfile.gettempdir()
    self.folder = folder
    self.file = tempfile.SpooledTemporaryFile(MAX_MEMORY, dir=folder)
    # Else Python warns of it, and at its own end with a traceback.
    weakref.finalize(self, self.file.close)
    self.ends = array.array('q', [0])
    self.lock = threading.Lock()  # of the position in the file
    self.latest: tuple[int, Any] = (-1, None)  # A record has several keys.

  def add(self, row: Any) -> int:
    """Appends a value of JSON. Returns its number."""
    text = json.dumps(row, ensure_ascii=False, separators=(',', ':'))
    data = text.encode(errors='surrogatepass')
    problem = (
      f'the records do not fit on the disk of {self.folder}, where a run keeps '
      'them: set TMPDIR to a folder with more space'
    )
    with self.lock, errors.explained(problem, OSError):
      self.file.seek(self.ends[-1])
      self.file.write(data)
    self.ends.append(self.ends[-1] + len(data))
    return len(self) - 1

  def __len__(self) -> int:
    return len(self.ends) - 1

  def __getitem__(self, number: Any) -> Any:
    if isinstance(number, slice):
      return [self[n] for n in range(*number.indices(len(self)))]
    if not 0 <= number < len(self):
      raise IndexError(number)
    latest_number, row = self.latest
    if latest_number != number:
      begin, end = self.ends[number], self.ends[number + 1]
      with self.lock:
        self.file.seek(begin)
        data = self.file.read(end - begin)
      row = json.loads(data.decode(errors='surrogatepass'))
      self.latest = number, row
    return row


class StoredRecord(Mapping[str, Any]):
  """A record of a RowFile."""

  __slots__ = 'number', 'rows'

  def __init__(self, rows: RowFile, number: int) -> None:
    self.rows, self.number = rows, number

  def __getitem__(self, key: str) -> Any:
    return self.rows[self.number][key]

  def __iter__(self) -> Iterator[str]:
    return iter(self.rows[self.number])

  def __len__(self) -> int:
    return len(self.rows[self.number])

  def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
    return {**self, **other}

  def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
    return {**other, **self}

  def __repr__(self) -> str:
    return repr(dict(self))


def store(rows: RowFile, record: Record) -> Record:
  """The record, stored in `rows`."""
  return StoredRecord(rows, rows.add(record))
