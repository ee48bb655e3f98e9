"""Parsers of the command line, and sentences about arguments that are not what
was meant."""

import argparse
import dataclasses
import difflib
import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from r1jax import config, errors

# Stages without a config of their own.
WITHOUT_KEYS = ('preflight',)


class CommandParser(argparse.ArgumentParser):
  """The parser of a stage or another command. Raises UserError for arguments
  that it cannot read."""

  def __init__(
    self,
    name: str,
    usage: str,
    description: str | None,
    epilog: str | None = None,
  ) -> None:
    super().__init__(
      prog=f'python -m r1jax {name}',
      usage=f'%(prog)s {usage}',
      description=description,
      epilog=epilog,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
    )
    self.name = name

  def add_number(
    self,
    option: str,
    default: float | None,
    text: str,
    minimum: float,
    maximum: float = math.inf,
    kind: type = int,
    metavar: str = 'N',
    shown: str = '',
  ) -> None:
    """Adds an option that is a number within bounds. Its help is `text` and the
    default, as which `shown` stands if it is given."""

    def read(text: str) -> float:
      bounds = f'of at least {minimum:g}'
      if maximum < math.inf:
        bounds = f'from {minimum:g} to {maximum:.12g}'
      try:
        value = kind(text)
      except ValueError:
        value = math.nan
      if not minimum <= value <= maximum or value == math.inf:
        unit = 'an integer' if kind is int else 'a number'
        raise argparse.ArgumentTypeError(f'{text!r} is not {unit} {bounds}')
      return value

    self.add_argument(
      option,
      metavar=metavar,
      type=read,
      default=default,
      help=f'{text}; default: {shown or default}',
    )

  def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
    """The options, which may stand between the other arguments."""
    options, unknown = self.parse_known_intermixed_args(arguments)
    if unknown:
      near = self.near(unknown[0])
      hint = f'did you mean {near}?' if near else f'see {self.prog} --help'
      raise errors.UserError(
        f'{self.name} cannot read the argument {unknown[0]}: {hint}'
      )
    return options

  def near(self, argument: str, others: Iterable[str] = ()) -> str:
    """The option of this parser, or one of `others`, that is most like an
    argument; '' if none is like it."""
    known = [x for action in self._actions for x in action.option_strings]
    option = argument.partition('=')[0]
    found = difflib.get_close_matches(option, [*known, *others], 1)
    return found[0] if found else ''

  def error(self, message: str) -> NoReturn:
    raise errors.UserError(f'{self.name}: {message}; see {self.prog} --help')


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
