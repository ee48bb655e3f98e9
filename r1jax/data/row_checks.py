"""What a row of a data file must not have: columns that r1jax does not read, and
columns that contradict each other. Each is refused, since a column that is left
out silently would change what is trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

from r1jax import errors
from r1jax.data import chats, gold_answers
from r1jax.data.formats import Record

MEDIA = 'image', 'images', 'video', 'videos', 'audio'
TOOLS = 'tools', 'functions'  # what a chat may call, which templates would show


def check_media(row: Record, where: str) -> None:
  """Raises UserError for images, video and sound."""
  for key in MEDIA:
    if row.get(key) not in (None, '', [], {}):
      raise errors.UserError(
        f'{where} has {key!r}, which r1jax does not read: its models read text '
        f"alone. If the prompts do without it, leave it out, by {{{key!r}: ''}} in "
        'the map of the columns'
      )


def check_tools(row: Record, where: str) -> None:
  """Raises UserError for definitions of tools beside a chat."""
  for key in TOOLS:
    if row.get(key) not in (None, '', [], {}, '[]'):
      raise errors.UserError(
        f'{where} has {key!r} beside its chat, which r1jax does not put into '
        f"prompts. If the chat does without them, leave them out, by {{{key!r}: ''}} "
        'in the map of the columns'
      )


def check_one(
  row: Record, keys: Sequence[str], meaning: str, where: str
) -> None:
  """Raises UserError if a row has different values under keys of one meaning."""
  found = {key: row[key] for key in keys if row.get(key) is not None}
  first = next(iter(found), '')
  if not all(gold_answers.is_same(found[first], x) for x in found.values()):
    raise errors.UserError(
      f'{where} has {" and ".join(map(repr, found))}, which differ, and each may '
      f'be its {meaning}: choose one by the map of the columns, '
      f'{{{meaning!r}: {first!r}}}, or by {meaning}={first} among the settings of '
      'the source'
    )


def check_response(texts: Mapping[str, Any], where: str) -> None:
  """Raises UserError if the texts under several keys, which may be the response
  of a row, differ. Other values are left to the reader of the row."""
  found = {key: x for key, x in texts.items() if isinstance(x, str)}
  first = next(iter(found), '')
  for key, text in found.items():
    if text.strip() != found[first].strip():
      raise errors.UserError(
        f'{where} has {first!r} and {key!r}, which differ, and each may be its '
        f"response: leave one of them out, by {{{key!r}: ''}} in the map of the "
        'columns'
      )


def check_system(
  row: Record, keys: Sequence[str], turns: Sequence, where: str
) -> None:
  """Raises UserError unless the system message of a row under a key of its own
  is a text, and that with which its turns begin, if they do."""
  found = [key for key in keys if row.get(key)]
  for key in found:
    if not isinstance(row[key], str):
      raise errors.UserError(
        f'{where}: {key!r} must be a text, the system message: if it is none, '
        f"leave it out, by {{{key!r}: ''}} in the map of the columns"
      )
  check_one(row, keys, 'system', where)
  if not found or not chats.is_system(turns):
    return
  if turns[0]['content'].strip() != row[found[0]].strip():
    raise errors.UserError(
      f'{where} has {found[0]!r} and a system message in its chat, which '
      f"differ: leave {found[0]!r} out, by {{{found[0]!r}: ''}} in the map of the "
      'columns, or take the message out of the chat'
    )
