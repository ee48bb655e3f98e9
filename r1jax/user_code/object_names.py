"""The names by which config keys hold user code, and the objects given in Python
that have one."""

import functools
from typing import Any

from r1jax.user_code import source_digest

PYTHON = 'python:'  # starts the name of an object that was given in Python
RECORD_MAKERS = 'toy', 'gym'  # of data/tasks.py; they are no modules
# The objects given in Python, by name. Config keys hold the names, so that a
# config stays text.
given: dict[str, Any] = {}


def is_name(text: str) -> bool:
  """Whether a text has the form of a name of user code."""
  if text in given or text.startswith(PYTHON):
    return True
  place, _, name = text.rpartition(':')
  if place in RECORD_MAKERS:
    return False
  is_place = place.endswith('.py') or is_dotted(place)
  return is_place and is_dotted(name)


def is_dotted(text: str) -> bool:
  """Whether a text has the form of a dotted name of Python."""
  return all(part.isidentifier() for part in text.split('.'))


def short_name(name: str) -> str:
  """NAME alone, as metrics and tables show it; other texts as they are."""
  if not is_name(name):
    return name
  return name.rpartition(':')[2].partition('@')[0]


def shown_name(name: str) -> str:
  """The name in errors: NAME alone of an object given in Python."""
  return short_name(name) if name.startswith(PYTHON) else name


def without_digest(name: str) -> str:
  """python:NAME of python:NAME@DIGEST; other texts as they are."""
  return name.partition('@')[0] if name.startswith(PYTHON) else name


def needs_name(value: Any) -> bool:
  """Whether a config key must hold the value by name: functions and other
  callables, tools, lists of records, and named tuples such as optax
  transformations."""
  if isinstance(value, list):
    return bool(value) and isinstance(value[0], dict)
  is_named_tuple = isinstance(value, tuple) and type(value) is not tuple
  return callable(value) or is_named_tuple or 'call' in dir(value)


def name_of(value: Any) -> str:
  """The name of a function, an object or a list of records, for a config key.
  An object that can be imported is named by its module, every other by its name
  and a digest of its source or content; this process can then load it."""
  path = source_digest.import_path(value)
  if path:
    return path
  digest = source_digest.of_object(value)
  own_name = 'records' if isinstance(value, list) else _own_name(value)
  if own_name in ('records', '<lambda>'):  # A run may have several.
    own_name = f'{own_name.strip("<>")}_{digest[:6]}'
  name = f'{PYTHON}{own_name}@{digest}'
  given[name] = value
  return name


def _own_name(value):
  if isinstance(value, functools.partial):
    return _own_name(value.func)
  return value.__name__ if '__name__' in dir(value) else type(value).__name__
