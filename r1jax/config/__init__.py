"""Configs as data: a ConfigDict to change, frozen dataclasses to read. A stage
declares its keys as nested dataclasses whose fields are `option`s."""

import ast
import copy
import dataclasses
import difflib
import json
import math
import operator
import runpy
import sys
import textwrap
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ml_collections import ConfigDict

from r1jax import errors, experiment_files, files, user_code
from r1jax.config import hints

T = TypeVar('T')

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


class UnknownKey(errors.UserError):
  """A config has no such key. `key` is dotted, without 'config.'."""

  def __init__(self, name: str, names: Sequence[str]) -> None:
    super().__init__(f'unknown key {name}{hints.hint(name, names)}')
    self.key = name.removeprefix('config.')


class Settings(ConfigDict):
  """A ConfigDict whose keys may contain dots, as names of user code do. A
  function or a list of records that is assigned to a key is stored by name."""

  def __init__(self, values: Mapping = {}, **options: Any) -> None:
    super().__init__(**(options | dict(allow_dotted_keys=True)))
    for key, value in values.items():
      self[key] = value

  def __setitem__(self, key: Any, value: Any) -> None:
    if user_code.needs_name(key):
      key = user_code.name_of(key)
    if user_code.needs_name(value):
      value = user_code.name_of(value)
    if isinstance(value, dict):
      value = Settings(value)
    if not isinstance(key, str):
      raise errors.UserError(
        f'{key!r} cannot be a key of a config: give a name, or a function'
      )
    if self.is_locked and key not in self:
      near = difflib.get_close_matches(key, self, 1)
      hint = f'. Did you mean "{near[0]}"?' if near else ''
      raise KeyError(f'Key "{key}" does not exist{hint}')
    super().__setitem__(key, value)


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


def defaults(cls: type) -> ConfigDict:
  """The locked Settings of cls; only options that are dicts take new keys."""
  return settings(cls())


def settings(options: Any) -> ConfigDict:
  """The Settings with the values of a dataclass instance, locked as those of
  defaults() are."""
  config = Settings(dataclasses.asdict(options)).lock()
  for name, value, _ in named_options(options):
    if isinstance(value, dict):
      operator.attrgetter(name)(config).unlock()
  return config


def build(cls: type[T], config: Mapping | ConfigDict) -> T:
  """The frozen cls with the values of config. Raises UserError, which names the
  full key, for an unknown, missing or ill-typed one."""
  names = [f'config.{name}' for name, _, _ in named_options(cls())]
  return _build(cls, config, 'config', names)


def load_file(path: str | Path) -> ConfigDict:
  """The result of get_config() in a Python file. The parent of its folder is on
  sys.path during the call: experiments/x.py can import experiments.base. So are
  the experiments that come with r1jax, which are also found by
  experiments/NAME.py in every folder."""
  files.check_local(path, '--config')
  path = experiment_files.find(path)
  if not path.is_file():
    hint = experiment_files.near(path, '*.py')
    raise errors.UserError(f'there is no config file {path}{hint}')
  before = sys.path.copy()
  sys.path.append(str(path.resolve().parent.parent))
  sys.path.append(str(experiment_files.root()))
  try:
    names = runpy.run_path(str(path))
    if 'get_config' not in names:
      raise NameError('the file defines no get_config()')
    config = names['get_config']()
  except Exception as error:
    raise errors.UserError(hints.file_error(path, error)) from error
  finally:
    sys.path[:] = before
  if not isinstance(config, ConfigDict):
    raise errors.UserError(f'{path}: get_config() must return a ConfigDict')
  return config


def joined(arguments: Sequence[str]) -> list[str]:
  """The arguments with --config.key=value for --config.key value. Only a value
  that begins with -- must be written behind =."""
  found: list[str] = []
  for argument in arguments:
    is_value = found and found[-1].startswith('--config.')
    if is_value and '=' not in found[-1] and not argument.startswith('--'):
      found[-1] += f'={argument}'
    else:
      found.append(argument)
  return found


def override(config: ConfigDict, arguments: Sequence[str]) -> ConfigDict:
  """A copy of config changed by arguments like --config.grpo.clip_low=0.1, or
  --config.grpo.clip_low 0.1."""
  arguments = joined(arguments)
  for argument in arguments:
    if not argument.startswith('--config.'):
      raise errors.UserError(
        f'cannot read the argument {argument}: write --config.key=value'
      )
    if '=' not in argument:
      raise errors.UserError(f'{argument} has no value: write {argument}=VALUE')
  texts = [argument.removeprefix('--config.') for argument in arguments]
  return with_values(config, parse(config, texts))


def parse(config: ConfigDict, texts: Sequence[str]) -> dict[str, Any]:
  """{dotted name: value} of texts like grpo.clip_low=0.1. A value gets the type
  that the key has in config."""
  values = {}
  for text in texts:
    name, _, value = text.partition('=')
    section, key = _find(config, name)
    values[name] = _parse(value, section.get(key), f'config.{name}')
  return values


def nearest(keys: Iterable[str], classes: Mapping[str, type]) -> str:
  """The name of the class whose fields are these keys, or most of them."""
  given, differences = set(keys), {}
  for name, cls in classes.items():
    fields = {field.name for field in dataclasses.fields(cls)}
    differences[name] = len(given ^ fields)
  return min(differences, key=differences.__getitem__)


def as_settings(config: Any) -> ConfigDict:
  """The Settings of a config: of Settings, a dataclass instance, or a file's
  path. Raises UserError for anything else."""
  if dataclasses.is_dataclass(config):
    return settings(config)
  if isinstance(config, str | Path):
    config = load_file(config)
  if not isinstance(config, ConfigDict):
    raise errors.UserError(
      f'the config is {user_code.describe(config)}: give a result of '
      'configure(), the config of a Run, or the path of a config file'
    )
  return config


def with_values(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
  """A copy of config with other values by dotted name. build() checks their
  types."""
  config = copy.deepcopy(config)
  with config.ignore_type():
    for name, value in values.items():
      section, key = _find(config, name)
      with errors.explained(f'config.{name} is too large', OverflowError):
        section[key] = value
  return config


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


def changes(a: Mapping, b: Mapping) -> dict[str, tuple[Any, Any]]:
  """{dotted key: (value in a, value in b)} where two nested dicts differ."""
  old, new, found = _flat(a), _flat(b), {}
  for key in old | new:
    pair = old.get(key, 'absent'), new.get(key, 'absent')
    is_same = pair[0] == pair[1] or {} in pair  # entries of a dict have keys
    if not is_same:
      found[key] = pair
  return found


def difference(a: Mapping, b: Mapping) -> list[str]:
  """Lines 'key: old -> new' where two nested dicts differ."""
  pairs = changes(a, b).items()
  return [f'{key}: {old!r} -> {new!r}' for key, (old, new) in pairs]


def code_names(options: Any) -> list[str]:
  """The names of user code that the options of a dataclass instance hold."""
  names = []
  for _, value, metadata in named_options(options):
    if metadata.get('is_code'):
      names += [text for text in _texts(value) if user_code.is_name(text)]
  return list(dict.fromkeys(names))


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


def _texts(value):
  """The texts in a value: itself, or keys and values of dicts and tuples. The
  settings of records, from '?' on, are left out."""
  if isinstance(value, str):
    yield value.partition('?')[0]
  elif isinstance(value, dict):
    for key, item in value.items():
      if isinstance(item, int | float):  # a weight by the name of a reward
        yield key.partition('?')[0]
      yield from _texts(item)
  elif isinstance(value, tuple | list):
    for item in value:
      yield from _texts(item)


def _find(config, name):
  """(section, key) of a dotted name. In a section that takes any key, the key
  may have dots, as names of files do. Raises UserError for an unknown key."""
  section, (*path, key) = config, name.split('.')
  for n, part in enumerate(path):
    inner = section.get(part)
    if not isinstance(inner, ConfigDict):
      rest = '.'.join([*path[n:], key])
      if not section.is_locked and user_code.is_name(rest):
        return section, rest
      raise _unknown_key(config, name)
    section = inner
  if section.is_locked and key not in section:
    raise _unknown_key(config, name)
  return section, key


def _unknown_key(config, name):
  names = ['config.' + key for key in _flat(config.to_dict())]
  return UnknownKey(f'config.{name}', names)


def _build(cls, section, prefix, names):
  annotations, values = typing.get_type_hints(cls), {}
  for key in section:
    if key not in annotations:
      raise UnknownKey(f'{prefix}.{key}', names)
  for field in dataclasses.fields(cls):
    name = f'{prefix}.{field.name}'
    if field.name not in section:
      raise errors.UserError(f'the key {name} is missing')
    low, high = map(field.metadata.get, ('minimum', 'maximum'))
    given = section[field.name]
    if type(given) in (int, float):
      if low is not None and given < low:
        raise errors.UserError(f'{name} is {given}; it must be at least {low}')
      if high is not None and given > high:
        raise errors.UserError(f'{name} is {given}; it must be at most {high}')
    value = _typed(annotations[field.name], given, name, names, high or MAX_INT)
    reads = field.metadata.get('reads')
    for text in _texts(value):
      files.check_local(text, name, not reads, reads == 'records')
    values[field.name] = value
  return cls(**values)


def _typed(kind, value, name, names, limit):
  """The value as an instance of the annotation `kind`; integers have at most the
  size `limit`."""
  origin, args = typing.get_origin(kind), typing.get_args(kind)
  is_section = isinstance(value, (ConfigDict, dict))
  if dataclasses.is_dataclass(kind) and is_section:
    return _build(kind, value, name, names)
  if origin is dict and is_section:
    return {
      key: _typed(args[1], value[key], f'{name}.{key}', names, limit)
      for key in value
    }
  if origin in (tuple, list) and isinstance(value, (tuple, list)):
    if origin is list or args[-1] is Ellipsis:
      args = args[:1] * len(value)
    if len(args) == len(value):
      pairs = enumerate(zip(args, value))
      return origin(
        _typed(k, x, f'{name}[{i}]', names, limit) for i, (k, x) in pairs
      )
  if kind is int and type(value) is int and abs(value) > limit:
    word = 'at most' if value > 0 else 'at least'
    bound = limit if value > 0 else -limit
    raise errors.UserError(f'{name} is {value}; it must be {word} {bound}')
  if kind is float and type(value) is int:
    with errors.explained(f'{name} is too large', OverflowError):
      return float(value)
  if kind is float and value != value:
    raise errors.UserError(f'{name} is not a number (NaN)')
  if kind is float and type(value) is float and math.isinf(value):
    raise errors.UserError(f'{name} is {value}; it must be finite')
  if kind is Any:
    return value.to_dict() if isinstance(value, ConfigDict) else value
  if type(value) is kind or (origin is typing.Literal and value in args):
    return value
  wanted = str(kind) if origin else kind.__name__
  if origin is typing.Literal:
    wanted = f'one of {", ".join(map(repr, args))}'
  raise errors.UserError(f'{name} must be {wanted}, not {value!r}')


def _parse(text, old, name):
  """The value that an override gives to a key whose value is `old`."""
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    value = text
  if isinstance(old, ConfigDict):
    if value is text and text.startswith('{'):
      raise errors.UserError(
        f'{name} cannot be read: {text} is no dict of Python values, such as '
        "{'name': 0.5}"
      )
    if old.is_locked or not isinstance(value, dict):
      raise errors.UserError(f'{name} holds keys: set one, --{name}.key=value')
    return value
  if old is None or type(value) is type(old):
    return value
  if isinstance(old, str):
    return text
  if isinstance(old, float) and type(value) is int:
    with errors.explained(f'{name} is too large', OverflowError):
      return float(value)
  if isinstance(old, (tuple, list)) and isinstance(value, (tuple, list)):
    return type(old)(value)
  if old and isinstance(old, tuple) and type(old[0]) is str:
    return tuple(text.split(','))  # a list of names, as in trackers
  raise errors.UserError(f'{name} must be like {old!r}, not {text!r}')


def _flat(tree, prefix=''):
  """{dotted key: value}, with lists for tuples, as in JSON."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict) and value:
      flat.update(_flat(value, f'{prefix}{key}.'))
    else:
      flat[prefix + key] = json.loads(json.dumps(value, default=repr))
  return flat
