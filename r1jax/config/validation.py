"""Builds the frozen dataclass of a config, and checks its keys, types and
bounds."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict

from r1jax import errors, files
from r1jax.config import declaration, hints

T = TypeVar('T')


def build(cls: type[T], config: Mapping | ConfigDict) -> T:
  """The frozen cls with the values of config. Raises UserError, which names the
  full key, for an unknown, missing or ill-typed one."""
  names = [f'config.{name}' for name, _, _ in declaration.named_options(cls())]
  return _build(cls, config, 'config', names)


def _build(cls, section, prefix, names):
  annotations, values = typing.get_type_hints(cls), {}
  for key in section:
    if key not in annotations:
      raise hints.UnknownKey(f'{prefix}.{key}', names)
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
    value = _typed(
      annotations[field.name], given, name, names, high or declaration.MAX_INT
    )
    reads = field.metadata.get('reads')
    for text in declaration.texts_of(value):
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
