"""CSV and TSV files: a header with the columns, then a record a row."""

import contextlib
import csv
import io
from collections.abc import Iterator
from pathlib import Path

from r1jax import errors
from r1jax.data.bad_records import BadRecords
from r1jax.data.sources import json_file

MAX_CELL = 2**31 - 1  # characters; the csv module's own limit is 131,072


def rows(
  path: str | Path, delimiter: str = '', bad: BadRecords | None = None
) -> Iterator[tuple[int, str, dict]]:
  """(number, 'FILE row N', {column: text}) of each row below the header that is
  not blank. An empty cell is None. Rows with other numbers of cells than the
  header are noted in `bad`, or else raise UserError. The delimiter is a comma,
  or a tab in .tsv, unless it is given."""
  name = str(path).removesuffix('.gz').lower()
  delimiter = delimiter or ('\t' if name.endswith('.tsv') else ',')
  csv.field_size_limit(MAX_CELL)
  header, number = None, 0
  with json_file.opened(path) as file:
    text = io.TextIOWrapper(file, 'utf-8', newline='')
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    for cells in _lines(path, reader):
      if not cells:
        continue
      if header is None:
        header = _header(path, cells, delimiter)
        continue
      number += 1
      where, row = f'{path} row {number}', None
      with bad.noted(f'row {number}') if bad else contextlib.nullcontext():
        row = _row(header, cells, where, reader.line_num)
      if row is not None:
        yield number, where, row


def _lines(path, reader):
  """The lists of cells. Raises UserError for a quote that is not closed, and
  for text of another encoding."""
  hint = "save it as 'CSV UTF-8'"
  try:
    with errors.explained(f'{path} is not text in UTF-8: {hint}', UnicodeError):
      yield from reader
  except csv.Error as error:
    raise errors.UserError(
      f'{path} is not CSV ({error}, at line {reader.line_num}): a cell with '
      'line ends, quotes or the separator stands in double quotes, and a quote '
      'inside it is doubled'
    ) from None


def _header(path, cells, delimiter):
  """The names of the columns; '' for those without, such as an index."""
  names = [cell.strip() for cell in cells]
  for name in names:
    if name and names.count(name) > 1:
      raise errors.UserError(f'{path} has two columns called {name!r}')
  other = [x for x in (';', '\t', '|', ',') if x != delimiter and x in names[0]]
  if len(names) == 1 and other:
    raise errors.UserError(
      f'{path} has one column, {names[0]!r}: if {other[0]!r} separates its '
      f'columns, name it {path}?delimiter={other[0]}'
    )
  return names


def _row(header, cells, where, line):
  if len(cells) != len(header):
    raise errors.UserError(
      f'{where} (which ends at line {line}) has {len(cells)} cells, but the '
      f'header has {len(header)} columns'
    )
  return {name: cell or None for name, cell in zip(header, cells) if name}
