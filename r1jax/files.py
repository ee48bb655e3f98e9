"""Files that are whole or absent: written beside their place, then renamed."""

import json
import os


def write_text(path, text):
  """Puts the text at path; its folder is made, and no half of it ever seen."""
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = path.with_name(path.name + '.tmp')
  draft.write_text(text, encoding='utf-8')
  os.replace(draft, path)


def write_jsonl(path, rows):
  """A line of JSON a row."""
  dump = lambda row: json.dumps(row, ensure_ascii=False) + '\n'
  write_text(path, ''.join(map(dump, rows)))
