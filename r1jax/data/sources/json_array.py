"""A JSON array of a text file, of which a part is in memory at a time."""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

PIECE = 1 << 20  # characters that are read at a time
SPACE = re.compile(r'[ \t\n\r]*')
NO_COMMA = "Expecting ',' delimiter"


def entries(file: TextIO, decoder: json.JSONDecoder) -> Iterator[Any]:
  """The entries of the array. Raises ValueError where the text is no JSON, after
  the entries before that place, and what the decoder raises."""
  data, at, line, count = '', 0, 0, 0
  while True:
    try:
      found, end = _next(decoder, data, at, count)
    except (ValueError, IndexError) as error:  # It may be cut off.
      more = file.read(max(PIECE, len(data) - at))
      if not more:
        raise ValueError(_problem(error, line)) from None
      line += data.count('\n', 0, at)
      data, at = data[at:] + more, 0
      continue
    if not found:
      break
    yield found[0]
    at, count = end, count + 1
  while data:
    if SPACE.fullmatch(data, end) is None:
      raise ValueError('Extra data behind its end')
    data, end = file.read(PIECE), 0


def _next(decoder, data, at, count):
  """([entry], where it ends) of the entry behind a position, which is the end
  of `count` others; [] at the array's end. Raises IndexError where the data
  end."""
  at = _skip(data, at)
  if count and data[at] == ']':
    return [], at + 1
  assert data[at] == (',' if count else '[')
  at = _skip(data, at + 1)
  if not count and data[at] == ']':
    return [], at + 1
  entry, end = decoder.raw_decode(data, at)
  end = _skip(data, end)
  if data[end] not in ',]':
    raise json.JSONDecodeError(NO_COMMA, data, end)
  return [entry], end


def _skip(data, at):
  return SPACE.match(data, at).end()


def _problem(error, line):
  """What is wrong, with its line if `line` lines are before the data."""
  if isinstance(error, json.JSONDecodeError):
    return f'{error.msg}: line {line + error.lineno}'
  return 'it ends without ]'
