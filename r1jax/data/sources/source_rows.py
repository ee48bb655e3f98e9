"""Rows of a source by its name: a file, a folder of `save_to_disk`, several
files by a pattern, or a dataset of the hub, each with settings behind '?'."""

import glob
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from r1jax import errors
from r1jax.data import settings as source_settings
from r1jax.data.bad_records import BadRecords
from r1jax.data.sources import arrow_file, columns, csv_file, hub, json_file
from r1jax.data.sources.columns import Row

TABLES = '.parquet', '.arrow', '.feather'
CSV = '.csv', '.tsv'
SETTINGS = 'split', 'limit', 'delimiter'  # of files; those of the hub: hub.py


class Source(NamedTuple):
  """A name of rows, in parts."""

  text: str  # the whole name
  place: str  # a path, a pattern of paths, or hf://NAME
  settings: dict[str, str]
  columns: dict[str, str]  # columns by keys of records

  @property
  def is_of_hub(self) -> bool:
    return self.place.startswith(hub.PREFIX)


def parse(text: str) -> Source:
  """The parts of PLACE?setting=value&KEY=COLUMN. What is no setting is a column
  by the key of a record."""
  if Path(text).exists():
    return Source(text, text, {}, {})
  place, _, query = text.partition('?')
  known = _settings_of(place)
  settings: dict[str, str] = {}
  own_columns: dict[str, str] = {}
  for key, value in source_settings.texts(query, text).items():
    target = settings if key in known else own_columns
    target[key] = value
  return Source(text, place, settings, own_columns)


def read(
  text: str,
  bad: BadRecords | None = None,
  config_columns: Mapping[str, str] = {},
) -> Iterator[Row]:
  """(number, place, row) of each row of a source, with the columns of its name
  and, for other keys, those of a config. Rows that cannot be read are noted in
  `bad`, or else raise UserError, as all other problems do."""
  source = parse(text)
  _check(source)
  found = _rows(source, bad)
  if 'limit' in source.settings:
    found = itertools.islice(found, int(source.settings['limit']))
  return columns.mapped(
    found,
    {**config_columns, **source.columns},
    source.place,
    _settings_of(source.place),
  )


def name_of(text: str) -> str:
  """The name of a source in the ids of its records: of a file without .jsonl or
  .jsonl.gz, of a dataset without its owner, with the split if it is named."""
  source = parse(text)
  name = Path(source.place).name.removesuffix('.gz')
  if not source.is_of_hub:
    name = Path(name).stem
  name = name.partition('*')[0].rstrip('-_.') or 'records'
  split = source.settings.get('split')
  return f'{name}/{split}' if split else name


def files_of(source: Source) -> list[Path]:
  """The files of a source that are on this machine. Raises UserError if there
  are none."""
  path, split = Path(source.place), source.settings.get('split', '')
  if path.is_dir():
    saved = arrow_file.SAVED, arrow_file.SAVED_SPLITS
    if any((path / name).is_file() for name in saved):
      return arrow_file.saved_files(path, split)
    raise errors.UserError(
      f'there is no data file {path}: it is a directory, and not of '
      f'save_to_disk: name a file in it, or several: {path}/*.parquet'
    )
  if split:
    raise errors.UserError(
      f'{source.text}: split is of {hub.PREFIX}… and of folders of '
      'save_to_disk; a file has none'
    )
  if path.is_file() or not is_pattern(source.place):
    return [path]
  return sorted(map(Path, glob.glob(source.place)))


def is_pattern(place: str) -> bool:
  """Whether a place stands for the files that match it."""
  return any(x in place for x in '*[') and bool(glob.glob(place))


def _settings_of(place):
  return hub.SETTINGS if place.startswith(hub.PREFIX) else SETTINGS


def _check(source):
  """Raises UserError for settings that cannot be."""
  limit = source.settings.get('limit', '1')
  if not limit.isdecimal() or int(limit) < 1:
    raise errors.UserError(
      f'{source.text}: limit must be 1 or more, not {limit!r}'
    )
  if len(source.settings.get('delimiter', ',')) != 1:
    raise errors.UserError(f'{source.text}: delimiter must be one character')


def _rows(source, bad):
  """(number, place, row) before columns are mapped."""
  if source.is_of_hub:
    yield from _numbered(hub.rows(source.text, source.settings), source.text)
    return
  paths = files_of(source)
  if len(paths) == 1:
    yield from _file_rows(paths[0], source, bad)
    return
  number = 0
  for path in paths:
    for _, where, row in _file_rows(path, source, bad):
      number += 1
      yield number, where, row


def _file_rows(path, source, bad):
  suffix = Path(path.name.removesuffix('.gz')).suffix.lower()
  if path.suffix.lower() in TABLES and path.is_file():
    return _numbered(arrow_file.rows(path), path)
  if suffix in CSV:
    return csv_file.rows(path, source.settings.get('delimiter', ''), bad)
  return json_file.rows(path, bad)


def _numbered(found, place):
  for number, row in enumerate(found, 1):
    yield number, f'{place} row {number}', row
