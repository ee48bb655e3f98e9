"""Parquet and arrow files, and folders of `save_to_disk`, by pyarrow."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from r1jax import errors, files
from r1jax.data.sources import columns

EXTRA = "pip install 'r1jax[data]'"
BATCH = 1000  # rows that are converted at a time
PIECE = 1 << 20  # bytes of a column that are read at a time
SHORT_FLOATS = dict(float=np.float32, halffloat=np.float16)  # by arrow's names
JSON = 'extension<arrow.json>'  # by arrow's name
SAVED = 'state.json'  # in the folder of a dataset that was saved
SAVED_SPLITS = 'dataset_dict.json'  # in the folder above those of its splits


def package(source: object) -> ModuleType:
  """The package. Raises UserError if it is not installed."""
  try:
    import pyarrow
  except ModuleNotFoundError:
    raise errors.UserError(
      f'{source} needs the package pyarrow, which is not installed: {EXTRA}'
    ) from None
  return pyarrow


def rows(path: Path) -> Iterator[dict]:
  """The rows of a .parquet or .arrow file, as `plain_rows`."""
  pa = package(path)
  files.check_is_no_pointer(path)
  if path.suffix.lower() == '.parquet':
    from pyarrow import parquet

    with errors.explained(f'{path} is not a parquet file', pa.ArrowException):
      # Its own default keeps in memory what it has read.
      whole = parquet.ParquetFile(path, pre_buffer=False, buffer_size=PIECE)
      with whole as file:
        check_names(path, file.schema_arrow)
        names = class_names(file.schema_arrow)
        yield from plain_rows(file.iter_batches(BATCH), names)
    return
  with errors.explained(f'{path} is not an arrow file', pa.ArrowException):
    with pa.memory_map(str(path)) as data:
      try:
        reader = pa.ipc.open_file(data)
        batches = map(reader.get_batch, range(reader.num_record_batches))
      except pa.ArrowInvalid:  # `datasets` writes streams
        data.seek(0)
        reader = batches = pa.ipc.open_stream(data)
      check_names(path, reader.schema)
      yield from plain_rows(batches, class_names(reader.schema))


def saved_files(folder: Path, split: str) -> list[Path]:
  """The arrow files of a dataset, or of a split of it, that `save_to_disk` has
  written. Raises UserError if the folder has several splits and none, or
  another, is asked for."""
  if (folder / SAVED_SPLITS).is_file():
    splits = _read_json(folder / SAVED_SPLITS)['splits']
    return saved_files(folder / choose_split(folder, splits, split), '')
  if split:
    raise errors.UserError(
      f'{folder} is one dataset without splits: leave out split={split}'
    )
  state = _read_json(folder / SAVED)
  return [folder / entry['filename'] for entry in state['_data_files']]


def choose_split(source: object, splits: Sequence[str], split: str) -> str:
  """The split that is asked for, or the only one. Raises UserError."""
  if not split and len(splits) == 1:
    return splits[0]
  if split not in splits:
    problem = f'has no split {split!r}' if split else 'has several splits'
    raise errors.UserError(
      f'{source} {problem}; its splits are {", ".join(splits)}: choose one, '
      f'split={splits[0]}'
    )
  return split


def check_names(path: Path, schema: Any) -> None:
  """Raises UserError if two columns have one name, of which one would be lost."""
  for name in schema.names:
    if schema.names.count(name) > 1:
      raise errors.UserError(f'{path} has two columns called {name!r}')


def class_names(schema: Any) -> dict[str, list[str]]:
  """{column: names of its numbers} of the ClassLabel columns, which `datasets`
  notes in the schema of its files."""
  text = (schema.metadata or {}).get(b'huggingface')
  if not text:
    return {}
  features = json.loads(text)['info']['features']
  return {
    key: feature['names']
    for key, feature in features.items()
    if isinstance(feature, dict) and feature.get('_type') == 'ClassLabel'
  }


def plain_rows(
  batches: Iterable, names: dict[str, list[str]]
) -> Iterator[dict]:
  """The rows of record batches or tables as values of Python: a ClassLabel as
  its name, JSON as its value, what is missing as None, but left out of structs.
  """
  for batch in batches:
    # `datasets` stores columns of mixed types as texts of JSON.
    of_json = {x.name: x.type for x in batch.schema if JSON in str(x.type)}
    kinds = {x.name: SHORT_FLOATS.get(str(x.type)) for x in batch.schema}
    short = {key: kind for key, kind in kinds.items() if kind}
    for row in batch.to_pylist():
      for key, kind in short.items():
        if row[key] is not None:
          row[key] = kind(row[key])  # read as 0.1, see columns.plain
      for key, kind in of_json.items():
        row[key] = _read_json_texts(row[key], kind)
      for key, labels in names.items():
        if isinstance(row.get(key), int):
          row[key] = labels[row[key]] if row[key] >= 0 else None
      yield {key: columns.without_nulls(x) for key, x in row.items()}


def _read_json_texts(value, kind):
  """A value of an arrow type, with the values of its texts of JSON."""
  from pyarrow import types

  if value is None or JSON not in str(kind):
    return value
  if types.is_struct(kind):
    return {x.name: _read_json_texts(value[x.name], x.type) for x in kind}
  if isinstance(value, list):
    return [_read_json_texts(x, kind.value_type) for x in value]
  return json.loads(value)


def _read_json(path):
  with errors.explained(f'{path} cannot be read', (OSError, ValueError)):
    return json.loads(path.read_text())
