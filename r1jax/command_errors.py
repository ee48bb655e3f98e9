"""Sentences about arguments of the command line that are not what was meant."""

import dataclasses
import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from r1jax import config, errors
from r1jax.command_parser import CommandParser

# Stages without a config of their own.
WITHOUT_KEYS = ('preflight',)


def check_arguments(
  name: str,
  parser: CommandParser,
  arguments: Sequence[str],
  keys: Iterable[str],
) -> None:
  """Raises UserError for arguments that the parser of a stage does not know and
  that set no key. `keys` are those of the stage, dotted."""
  wrong = [x for x in arguments if not x.startswith('--config.')]
  if wrong:
    others = [x for x in wrong if x != '--']
    argument = others[0] if others else wrong[0]
    hint = _hint(name, parser, argument, keys)
    raise errors.UserError(f'cannot read the argument {argument}: {hint}')


def _hint(name, parser, argument, keys):
  option, equals, value = argument.partition('=')
  key = option.removeprefix('--')
  if not argument.startswith('-'):
    if argument.endswith('.py'):
      return f'a config file is given by --config {argument}'
    return 'write --config.key=value'
  if option == '--dry-run':
    return (
      f'{name} has no dry run. preflight predicts memory and time of a run; '
      'launch_tpu.sh has --dry-run, before its --'
    )
  if key in keys:
    return f'a key of the config is set by --config.{key}={value or "VALUE"}'
  near = parser.near(option, [f'--{key}' for key in keys])
  if near.removeprefix('--') in keys:
    near = f'--config.{near.removeprefix("--")}'
  if near:
    return f'did you mean {near}{equals}{value}?'
  return 'write --config.key=value'


def check_file(
  name: str, path: str, keys: Iterable[str], stages: Mapping[str, str]
) -> None:
  """Raises UserError if a config file with these keys is one of another stage.
  `stages` are the modules by name."""
  given = set(keys)
  if name in WITHOUT_KEYS or given == _sections(stages[name]):
    return
  differences = {name: len(given ^ _sections(stages[name]))}
  for other in stages:
    if other not in WITHOUT_KEYS:
      differences[other] = len(given ^ _sections(stages[other]))
  nearest = min(differences, key=differences.__getitem__)
  if differences[nearest] < differences[name]:
    foreign = sorted(given - _sections(stages[name]))
    example = f' (it has {foreign[0]})' if foreign else ''
    raise errors.UserError(
      f'{path} is a config of the stage {nearest}{example}, not of {name}: '
      f'python -m r1jax {nearest} --config {path}'
    )


def of_another_stage(
  error: config.UnknownKey, name: str, stages: Mapping[str, str]
) -> errors.UserError:
  """The error about an unknown key of a stage, which says which other stages
  have the key, if any has."""
  found = []
  for other, module in stages.items():
    if other not in (name, *WITHOUT_KEYS):
      keys = _keys(module)
      if any(f'{error.key}.'.startswith(f'{key}.') for key in keys):
        found.append(other)
  if not found:
    return error
  return errors.UserError(
    f'unknown key config.{error.key}: it is a key of {" and ".join(found)}, '
    f'not of {name}; python -m r1jax {name} --help lists the keys'
  )


def without_config(name: str) -> errors.UserError:
  """The error of a stage that was given no config file."""
  example = Path('experiments/demo_zero.py')
  known = f', such as {example}' if name == 'rl' and example.exists() else ''
  return errors.UserError(
    f'{name} needs --config FILE, a Python file with get_config(){known}: see '
    f'experiments/, and python -m r1jax {name} --help for the keys'
  )


def _sections(module):
  """The names of the fields of a stage's config."""
  fields = dataclasses.fields(importlib.import_module(module).Config)
  return {field.name for field in fields}


def _keys(module):
  """The dotted keys of a stage."""
  options = importlib.import_module(module).Config()
  return [key for key, _, _ in config.named_options(options)]
