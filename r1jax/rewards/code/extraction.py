"""The program in a response: one of its blocks of code."""

import json
import re
from typing import NamedTuple

from r1jax.rewards import format

# A fence of Markdown, which may be indented or begin an item of a list.
FENCE = re.compile(
  r'(?P<indent>[ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+)?)'
  r'(?P<fence>```+|~~~+)[ \t]*(?P<info>.*)'
)
PYTHON = re.compile(
  r'\{?\.?(python|py|pypy|cpython|ipython)[\d.]*(?![\w-])|[\w./:-]+\.py\b', re.I
)
# What a program that reads stdin does in any case.
OUTPUT = re.compile(r'\bprint\s*\(|\bstdout\b|\bos\.write\b')
MAX_INDENT = 3  # columns between an opening fence and its closing one


class Block(NamedTuple):
  """The code between two fences, and whether it is marked as Python; a block
  without a language is not."""

  code: str
  is_marked: bool


def blocks(text: str) -> list[Block]:
  """The closed blocks in the answer part of a response that are marked as
  Python or not marked."""
  text, _ = format.answer_part(text)
  found, opened = [], None
  lines: list[str] = []
  for line in text.replace('\r\n', '\n').split('\n'):
    fence = FENCE.fullmatch(line)
    if opened is None:
      if fence and not ('`' in fence['fence'] and '`' in fence['info']):
        opened, lines = fence, []
    elif fence and _closes(opened, fence):
      info = opened['info'].strip()
      is_marked = PYTHON.match(info) is not None
      if is_marked or not info:
        width = len(opened['indent'].expandtabs())
        code = '\n'.join(_dedented(x, width) for x in lines) + '\n'
        found.append(Block(code, is_marked))
      opened = None
    else:
      lines.append(line)
  return found


def encoded_blocks(text: str) -> str | None:
  """The blocks as JSON, None if there are none."""
  found = blocks(text)
  return json.dumps(found) if found else None


def program(found: list[Block], entry_point: str = '') -> str | None:
  """The block that is the program: the last one that defines the function or
  the class of its method; of a program that reads stdin, the last one marked as
  Python, or not marked if none is, that writes something. Where no block does,
  it is the last of them; None if there are no blocks."""
  if entry_point:
    wanted = _definition(entry_point)
  else:
    wanted = OUTPUT
    found = [x for x in found if x.is_marked] or found
  for block in reversed(found):
    if wanted.search(block.code):
      return block.code
  marked = [x for x in found if x.is_marked] or found
  # The body of a function is indented.
  bodies = [x for x in marked if x.code.lstrip('\n')[:1] in (' ', '\t')]
  last = (entry_point and bodies) or marked
  return last[-1].code if last else None


def _definition(entry_point):
  """What matches the definition of a function, 'CLASS.METHOD' or a method."""
  owner, _, name = entry_point.replace('()', '').rpartition('.')
  patterns = [
    rf'^\s*(?:async\s+)?def\s+{re.escape(name)}\b',
    rf'^class\s+{re.escape(name)}\b',
    rf'^{re.escape(name)}\s*(?::[^=\n]*)?=(?!=)',
  ]
  if owner:
    patterns.append(rf'^class\s+{re.escape(owner)}\b')
  return re.compile('|'.join(patterns), re.MULTILINE)


def _closes(opened, fence):
  return (
    not fence['info'].strip()
    and fence['fence'].startswith(opened['fence'])
    and not fence['indent'].strip()
    and len(fence['indent'].expandtabs())
    <= len(opened['indent'].expandtabs()) + MAX_INDENT
  )


def _dedented(line, width):
  """The line without at most `width` columns of its indentation."""
  if not width:
    return line
  line = line.expandtabs() if line[:1] == '\t' else line
  spaces = len(line) - len(line.lstrip(' '))
  return line[min(width, spaces) :]
