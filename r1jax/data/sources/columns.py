"""The columns of a source: those that a user names for the keys of records, and
their values as JSON."""

import datetime
import decimal
import difflib
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from r1jax import errors

# Keys of a record that mean the same. A column that a user names for one of
# them counts, and the others are left out.
SAME = (
  ('answer', 'ground_truth', 'expected_answer', 'final_answer'),
  ('response', 'completion'),
  ('problem', 'question', 'instruction', 'messages', 'conversations', 'prompt'),
)

Row = tuple[int, str, dict]  # (number, place, {column: value})


def mapped(
  rows: Iterable[Row],
  columns: Mapping[str, str],
  source: str,
  settings: Iterable[str] = (),
) -> Iterator[Row]:
  """The rows with the keys of records that `columns` gives to columns. A column
  may be a part of another, 'extra_info.answer'; '' leaves the key out. Raises
  UserError after the last row for a column that no row has; `settings` of the
  source are what a key may have been meant to be."""
  seen: dict[str, None] = {}
  missing = {column for column in columns.values() if column}
  for number, where, row in rows:
    if columns:
      seen |= dict.fromkeys(row)
      missing -= {x for x in missing if _value(row, x)[0]}
      row = _renamed(row, columns)
    yield number, where, row
  if seen and missing:
    keys = [k for k, column in columns.items() if column in missing]
    near = difflib.get_close_matches(keys[0], settings, 1)
    hint = f'. Did you mean the setting {near[0]}?' if near else ''
    raise errors.UserError(
      f'{source} has no column {columns[keys[0]]!r}, which is to be its '
      f'{keys[0]!r}; its columns are {", ".join(seen)}{hint}'
    )


def plain(value: Any, where: str, key: str) -> Any:
  """A value of a column as JSON: arrays as lists, decimals as numbers, dates and
  UUIDs as text, NaN as None. Raises UserError for bytes."""
  if isinstance(value, np.float16 | np.float32):
    value = float(str(value))  # 0.1, not 0.10000000149011612
  elif isinstance(value, np.ndarray) and value.ndim:
    value = [*value]
  elif isinstance(value, np.ndarray | np.generic):
    value = value.tolist()
  if isinstance(value, dict):
    return {k: plain(x, where, key) for k, x in value.items()}
  if isinstance(value, list | tuple):
    return [plain(x, where, key) for x in value]
  if isinstance(value, bytes | bytearray | memoryview):
    raise errors.UserError(
      f'{where}: {key!r} has bytes, such as those of an image or a sound, which '
      f"r1jax does not read: leave it out, by {{{key!r}: ''}} in the map of the "
      f'columns, or by {key}= among the settings of the source'
    )
  if isinstance(value, float) and math.isnan(value):
    return None
  if isinstance(value, decimal.Decimal):
    return int(value) if value == value.to_integral_value() else float(value)
  if isinstance(value, datetime.date | datetime.time):
    return value.isoformat()
  if isinstance(value, uuid.UUID):
    return str(value)
  if isinstance(value, datetime.timedelta):
    return value.total_seconds()
  return value


def without_nulls(value: Any) -> Any:
  """A value of a table without the entries of dicts that are None: a table
  holds each key of a column in all of its rows."""
  if isinstance(value, dict):
    return {k: without_nulls(x) for k, x in value.items() if x is not None}
  if isinstance(value, list):
    return [without_nulls(x) for x in value]
  return value


def _renamed(row, columns):
  """The row with the keys of `columns`. The columns that get another key lose
  their own."""
  left_out = {column for column in columns.values()}
  for key in columns:
    for group in SAME:
      if key in group:
        left_out |= {x for x in group if x not in columns}
  renamed = {
    k: x for k, x in row.items() if k not in left_out and k not in columns
  }
  for key, column in columns.items():
    found, value = _value(row, column)
    if found:
      renamed[key] = value
  return renamed


def _value(row, column):
  """(whether the row has the column, its value)."""
  if column in row:
    return True, row[column]
  outer, dot, inner = column.partition('.')
  if dot and isinstance(row.get(outer), dict):
    return _value(row[outer], inner)
  return False, None
