"""Configs as data: a ConfigDict to change, frozen dataclasses to read. A stage
declares its keys as nested dataclasses whose fields are `option`s."""

from r1jax.config.config_dict import (
  Settings,
  as_settings,
  defaults,
  load_file,
  settings,
)
from r1jax.config.declaration import (
  FIXED,
  MAX_INT,
  MAX_SEED,
  code_names,
  describe,
  named_options,
  nearest,
  option,
)
from r1jax.config.differences import changes, difference
from r1jax.config.hints import UnknownKey
from r1jax.config.overrides import joined, override, parse, with_values
from r1jax.config.validation import build

__all__ = [
  'FIXED',
  'MAX_INT',
  'MAX_SEED',
  'Settings',
  'UnknownKey',
  'as_settings',
  'build',
  'changes',
  'code_names',
  'defaults',
  'describe',
  'difference',
  'joined',
  'load_file',
  'named_options',
  'nearest',
  'option',
  'override',
  'parse',
  'settings',
  'with_values',
]
