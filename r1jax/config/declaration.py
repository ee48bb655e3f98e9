"""The declaration of options, as fields of dataclasses, and what is read from
it: their names, the table of --help, the user code that they name."""

import dataclasses
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from r1jax import user_code

# Integers become int32 in jax; another limit is an option's `maximum`.
MAX_INT = 2**31 - 1
MAX_SEED = 2**32 - 1  # jax would take only the lower 32 bits of a larger one

# Why a key cannot change within a run, by its option's `fixed`.
FIXED = dict(
  model='the checkpoints hold the model',
  optimizer='the checkpoints hold the state of this optimizer',
  reference='the checkpoints hold a reference only if there is no teacher',
  seed='random numbers and the order of records follow from it',
  data='the position in the records is part of the run',
  batch='the position in the records is counted in batches',
  held_out='it decides which records are held out',
  prompt='the model is trained with it',
  best='the scores of the checkpoints are by it',
  scores='the scores are trained for it',
)


def option(
  default: Any,
  help: str,
  minimum: float | None = None,
  maximum: float | None = None,
  is_code: bool = False,
  is_free: bool = False,
  fixed: str = '',
  reads: str = '',
) -> Any:
  """A dataclass field: its default, its text in --help, its bounds, whether it
  can hold names of user code. A key is_free if it influences no result but the
  order of sums, or only what is logged and kept; it is `fixed`, a key of FIXED,
  if it cannot change within a run (see training/config_changes.py). A key that
  `reads` files names a model, records, or results of evaluations; the content
  of the files is part of the run (see training/inputs.py)."""
  assert not fixed or fixed in FIXED
  assert reads in ('', 'model', 'records', 'results')
  metadata = dict(help=help, minimum=minimum, maximum=maximum)
  metadata |= dict(is_code=is_code, is_free=is_free, reads=reads)
  metadata |= dict(fixed=FIXED.get(fixed, ''))
  if isinstance(default, (dict, list)):
    return dataclasses.field(default_factory=default.copy, metadata=metadata)
  return dataclasses.field(default=default, metadata=metadata)


def named_options(
  options: Any, prefix: str = ''
) -> Iterator[tuple[str, Any, Mapping]]:
  """(dotted name, value, metadata) of every option of a dataclass instance. The
  dataclasses of other modules may have fields without metadata."""
  for field in dataclasses.fields(options):
    name, value = f'{prefix}{field.name}', getattr(options, field.name)
    if dataclasses.is_dataclass(value):
      yield from named_options(value, f'{name}.')
    else:
      yield name, value, field.metadata


def describe(cls: type) -> str:
  """A table of the keys of cls with their defaults and help texts. Free keys
  are marked by *, fixed ones by ! (see option)."""
  rows = []
  for name, default, metadata in named_options(cls()):
    short = textwrap.shorten(repr(default), 28, placeholder=' …')
    help = metadata.get('help', '')
    if metadata.get('is_code'):
      help += '; or FILE.py:NAME'
    mark = '*' if metadata.get('is_free') else ' '
    mark = '!' if metadata.get('fixed') else mark
    rows.append((f'{mark} --config.{name}', short, help))
  name_width = max((len(name) for name, _, _ in rows), default=0)
  default_width = max((len(default) for _, default, _ in rows), default=0)
  return '\n'.join(
    f'{name:{name_width}}  {default:{default_width}}  {help}'.rstrip()
    for name, default, help in rows
  )


def nearest(keys: Iterable[str], classes: Mapping[str, type]) -> str:
  """The name of the class whose fields are these keys, or most of them."""
  given, differences = set(keys), {}
  for name, cls in classes.items():
    fields = {field.name for field in dataclasses.fields(cls)}
    differences[name] = len(given ^ fields)
  return min(differences, key=differences.__getitem__)


def code_names(options: Any) -> list[str]:
  """The names of user code that the options of a dataclass instance hold."""
  names = []
  for _, value, metadata in named_options(options):
    if metadata.get('is_code'):
      names += [text for text in texts_of(value) if user_code.is_name(text)]
  return list(dict.fromkeys(names))


def texts_of(value: Any) -> Iterator[str]:
  """The texts in a value: itself, or keys and values of dicts and tuples. The
  settings of records, from '?' on, are left out."""
  if isinstance(value, str):
    yield value.partition('?')[0]
  elif isinstance(value, dict):
    for key, item in value.items():
      if isinstance(item, int | float):  # a weight by the name of a reward
        yield key.partition('?')[0]
      yield from texts_of(item)
  elif isinstance(value, tuple | list):
    for item in value:
      yield from texts_of(item)
