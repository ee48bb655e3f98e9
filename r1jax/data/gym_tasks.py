"""Tasks of reasoning-gym as records. A record keeps the task's name with its
settings and the task's entry, from which the task's own scorer judges answers.
"""

import ast
import difflib
import functools
import importlib.metadata
from collections.abc import Iterator
from typing import Any

import numpy as np

from r1jax import errors
from r1jax.data import settings as source_settings
from r1jax.data.formats import Record

PREFIX = 'gym:'
PACKAGE = 'reasoning-gym'


def rows(source: str, count: int, seed: int) -> Iterator[Record]:
  """`count` records of 'gym:NAME?key=value'; the settings are the task's own.

  A record has the prompt; as `scorer` the source; as `entry` the task's entry,
  a literal of Python, since entries hold tuples and keys that JSON lacks; and
  as `answer` the gold answer, if the task has a single one.
  """
  try:
    tasks = dataset(source, size=count, seed=seed)
  except ImportError as error:
    raise errors.UserError(
      f'{source.partition("?")[0]} needs another package: pip install '
      f'{PACKAGE} ({error})'
    ) from error
  for n, entry in enumerate(tasks):
    where = f'problem {n} of {source}'
    record = dict(prompt=entry['question'], scorer=source)
    record['entry'] = _literal(entry, where)
    if isinstance(entry['answer'], str):
      record['answer'] = entry['answer']
    yield record


def dataset(source: str, **arguments: int) -> Any:
  """The dataset of reasoning-gym that 'gym:NAME?key=value' names, with further
  arguments of it. Raises UserError, or ImportError without the package."""
  from reasoning_gym import create_dataset, factory

  name, _, query = source.removeprefix(PREFIX).partition('?')
  settings = source_settings.parse(query, source)
  settings.pop('count', None)
  if name not in factory.DATASETS:
    near = difflib.get_close_matches(name, factory.DATASETS, n=3, cutoff=0)
    raise errors.UserError(
      f'reasoning-gym has no task {name!r}; near it are {", ".join(near)}'
    )
  # Its configs raise TypeError for an unknown key and AssertionError for a
  # value that they do not accept.
  with errors.explained(f'reasoning-gym refuses {settings} for {name}'):
    return create_dataset(name, **settings, **arguments)


@functools.lru_cache(128)  # reasoning-gym has 105 tasks
def scorer_dataset(source: str) -> Any:
  """The dataset whose method score_answer(answer, entry) judges the answers to
  records with this scorer."""
  return dataset(source, size=1, seed=0)


def entry_of(record: Record) -> dict[str, Any]:
  """The entry that a record keeps. Raises UserError if it has none."""
  where = f'record {record["id"]}'
  with errors.explained(
    f'{where} has the scorer {record["scorer"]!r}, but its entry cannot be '
    'read: make the records of reasoning-gym again'
  ):
    entry = ast.literal_eval(record['entry'])
    if not entry.keys() >= {'question', 'answer'}:
      raise ValueError('it has no question and answer')
    return entry


def version() -> str:
  """The version of reasoning-gym, whose scorers are part of it."""
  try:
    return importlib.metadata.version(PACKAGE)
  except importlib.metadata.PackageNotFoundError:
    return 'missing'


def _literal(entry, where):
  """The entry as a literal of Python that stands for an equal one."""
  text = repr(_plain(entry))
  with errors.explained(f'{where} cannot be kept in a record'):
    if ast.literal_eval(text) != entry:
      raise ValueError('its entry is no plain data')
  return text


def _plain(value):
  """The value with the plain types of Python in place of numpy's."""
  if isinstance(value, dict):
    return {_plain(key): _plain(x) for key, x in value.items()}
  if isinstance(value, list | tuple | set):
    return type(value)(map(_plain, value))
  if isinstance(value, np.generic):
    return value.item()
  return value
