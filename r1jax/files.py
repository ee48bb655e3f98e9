"""Files that are whole or absent: written beside their place, then renamed."""

import json
import os
import pathlib

from r1jax import errors


def write_text(path, text):
  """Puts the text at path; its folder is made, and no half of it ever seen."""
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = path.with_name(path.name + '.tmp')
  draft.write_text(text, encoding='utf-8')
  os.replace(draft, path)


def write_jsonl(path, rows):
  """A line of JSON a row."""

  def dump(row):
    return json.dumps(row, ensure_ascii=False) + '\n'

  write_text(path, ''.join(map(dump, rows)))


def read_jsonl(path):
  """The lines of a jsonl file but for a last one that was cut short."""
  lines = []
  whole = pathlib.Path(path).read_bytes().split(b'\n')[:-1]
  for number, line in enumerate(whole, 1):
    try:
      lines.append(json.loads(line))
    except ValueError as error:
      raise errors.UserError(f'{path}, line {number}: {error}') from error
  return lines
