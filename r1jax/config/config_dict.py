"""The ConfigDicts that a config is until it is built: made of the defaults of a
dataclass, or loaded from a file."""

import dataclasses
import difflib
import operator
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from r1jax import errors, experiment_files, files, user_code
from r1jax.config import declaration, hints


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


def defaults(cls: type) -> ConfigDict:
  """The locked Settings of cls; only options that are dicts take new keys."""
  return settings(cls())


def settings(options: Any) -> ConfigDict:
  """The Settings with the values of a dataclass instance, locked as those of
  defaults() are."""
  config = Settings(dataclasses.asdict(options)).lock()
  for name, value, _ in declaration.named_options(options):
    if isinstance(value, dict):
      operator.attrgetter(name)(config).unlock()
  return config


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
