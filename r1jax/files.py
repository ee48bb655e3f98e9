"""Atomic writing of text and JSON lines, reading of JSON lines, and which paths
are of this machine."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from r1jax import errors

# Names of stores that are not folders. pathlib makes one slash of two.
REMOTE = re.compile(
  r'(gs|gcs|s3[an]?|r2|oss|cos|az|abfss?|adl|wasbs?|hdfs|dbfs|hf|file|ftp)://?',
  re.IGNORECASE,
)
WEB = re.compile('https?://?', re.IGNORECASE)
OF_THE_HUB = re.compile('https?://?huggingface.co/(datasets/)?([^/]+/[^/?]+)')

# The name of a file that is being written is that of the file and this end.
TEMPORARY = re.compile(r'.+\.[0-9a-f]{8}\.tmp', re.DOTALL)
ABANDONED = 60.0  # seconds without a write after which nobody writes it

LFS = b'version https://git-lfs'
HUB = 'hf://'  # a dataset of the Hugging Face hub, see data/sources/hub.py


def check_local(
  path: object, name: str, may_be_web: bool = False, may_be_hub: bool = False
) -> None:
  """Raises UserError for the URL of a bucket, another store or, unless it may
  be one, of a web page or of a dataset of the hub. Runs append to files, rename
  and lock them, and stores have none of these. So it does for ~, which shells
  expand only at the beginning of an argument. To be called before a Path is made
  of the text."""
  if str(path).startswith('~/'):
    raise errors.UserError(
      f'{name} is {path}, but ~ stands for the home directory only where a '
      f'shell expands it: write {pathlib.Path.home()}{str(path)[1:]}'
    )
  on_hub = OF_THE_HUB.match(str(path))
  if on_hub and not may_be_web:
    of_hub = on_hub[2] if not on_hub[1] else f'{HUB}{on_hub[2]}?split=train'
    raise errors.UserError(
      f'{name} is {path}: models of the hub are named OWNER/NAME, datasets '
      f'{HUB}OWNER/NAME, so this one is {of_hub}'
    )
  if WEB.match(str(path)) and not may_be_web:
    raise errors.UserError(
      f'{name} is {path}, but r1jax reads and writes files of this machine '
      'only: download it first (curl, wget), and give the path of the file'
    )
  if str(path).startswith(HUB):
    if may_be_hub:
      return
    raise errors.UserError(
      f'{name} is {path}, but r1jax reads datasets alone by {HUB}, and from '
      'folders of this machine only: copy what it reads; a model of the hub is '
      'named OWNER/NAME'
    )
  if REMOTE.match(str(path)):
    raise errors.UserError(
      f'{name} is {path}, but r1jax reads and writes folders of this machine '
      'only: copy what it reads (gcloud storage cp, aws s3 cp), and write to a '
      'disk, or to a bucket that is mounted as a folder (gcsfuse, mountpoint-s3)'
    )


def local_folder(path: Any, name: str) -> pathlib.Path:
  """The path of a directory of this machine, which need not exist. Raises
  UserError for other values."""
  if not isinstance(path, str | os.PathLike) or not str(path):
    raise errors.UserError(f'{name} is {path!r}: give the path of a directory')
  check_local(path, name)
  return pathlib.Path(path)


def check_is_no_pointer(path: pathlib.Path) -> None:
  """Raises UserError for a file of git-lfs that stands for the real one."""
  with path.open('rb') as file:
    if file.read(len(LFS)) == LFS:
      raise errors.UserError(
        f'{path} is a pointer of git-lfs, not the file itself: run `git lfs '
        'pull` in its repository'
      )


@contextlib.contextmanager
def named(path: pathlib.Path) -> Iterator[None]:
  """Gives the path to an OSError of the body that has none, as that of a write
  to a full disk, and its number to that of numpy's tofile."""
  try:
    yield
  except OSError as error:
    if error.errno is None and 'requested and' in str(error):
      error.errno, error.strerror = errno.ENOSPC, str(error)
    error.filename = error.filename or str(path)
    raise


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes the text by renaming a temporary file, so that no reader sees a part
  of it and several processes may write it at once. Creates the folder."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = _temporary(path)
  try:
    with named(path):
      temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(directory: pathlib.Path) -> Iterator[None]:
  """Holds a lock of the directory, if its disk has locks of directories. For
  commands that may write the same file at once."""
  file = os.open(directory, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):
      fcntl.flock(file, fcntl.LOCK_EX)
    yield
  finally:
    os.close(file)


def check_writable(path: pathlib.Path) -> None:
  """Raises UserError if the file cannot be written."""
  temporary = _temporary(path)
  with errors.explained(f'cannot write {path}', OSError):
    temporary.write_text('')
    temporary.unlink()


def _temporary(path):
  """A file beside another that no other process has."""
  return path.with_name(f'{path.name}.{secrets.token_hex(4)}.tmp')


def remove_interrupted(folder: pathlib.Path) -> None:
  """Removes the temporary files of write_text that killed processes have left
  directly in a folder. Those of the last ABANDONED seconds stay: a report of a
  run may be written at this moment."""
  for path in folder.glob('*.tmp'):
    if TEMPORARY.fullmatch(path.name):
      with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > ABANDONED:
          path.unlink()  # refuses a folder


def write_jsonl(path: pathlib.Path, rows: Iterable[Any]) -> None:
  """Writes each row as one line of JSON, atomically. A mapping is an object."""
  lines = [
    json.dumps(row, ensure_ascii=False, default=_as_object) + '\n'
    for row in rows
  ]
  write_text(path, ''.join(lines))


def _as_object(value):
  if isinstance(value, Mapping):
    return dict(value)
  raise TypeError(f'{type(value).__name__} is no value of JSON')


def read_jsonl(path: str | pathlib.Path) -> list[Any]:
  """The rows of a file of JSON lines. A last line without a newline is ignored:
  the process that appended it was killed. Raises UserError for invalid JSON."""
  rows = []
  lines = pathlib.Path(path).read_bytes().split(b'\n')[:-1]
  for number, line in enumerate(lines, 1):
    with errors.explained(f'{path}, line {number} is not JSON', ValueError):
      rows.append(json.loads(line))
  return rows
