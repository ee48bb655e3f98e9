"""Other values for keys of a config, by their dotted names: of --config
arguments, or given in Python."""

import ast
import copy
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from r1jax import errors, user_code
from r1jax.config import differences, hints


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
  names = ['config.' + key for key in differences.flatten(config.to_dict())]
  return hints.UnknownKey(f'config.{name}', names)


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
