"""The grid of a sweep: values by config key, and a run for each combination of
values and seed."""

import ast
import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from r1jax import config as configs
from r1jax import errors, user_code

ABSENT = 'absent'  # in place of the value of a key that a config does not have
SAFE = re.compile(
  r'[A-Za-z0-9.+_-]{1,40}'
)  # a value that names a folder as it is
UNSAFE = re.compile(r'[^A-Za-z0-9.+_-]+')
NAME_LENGTH = 200  # of a folder, at most

Grid = Mapping[str, Iterable]


@dataclasses.dataclass(frozen=True)
class PlannedRun:
  """A run of a sweep: its folder below that of the sweep, and its config."""

  name: str
  config: dict  # all keys, nested, as in config.json


def parse(texts: Iterable[str]) -> dict[str, list]:
  """{key: values} of texts like grpo.kl_coef=[0,0.01]."""
  grid: dict[str, list] = {}
  for text in texts:
    key, _, values = text.partition('=')
    try:
      found = ast.literal_eval(values.strip())
    except (ValueError, SyntaxError, TypeError):
      found = None
    if not isinstance(found, list):
      raise errors.UserError(
        f'cannot read --grid {text}: write KEY=[value,value] with numbers or '
        "texts in quotes, such as --grid 'grpo.kl_coef=[0,0.01]' or "
        '--grid \'grpo.loss_agg=["token_mean","seq_mean_token_mean"]\''
      )
    if key in grid:
      raise errors.UserError(
        f'--grid has the key {key} twice: give all its values in one list'
      )
    grid[key] = found
  return grid


def check(grid: Grid) -> dict[str, list]:
  """The grid with keys without 'config.' and plain Python values."""
  if not isinstance(grid, Mapping) or not all(
    isinstance(key, str) for key in grid
  ):
    raise errors.UserError(
      f'the grid is {user_code.describe(grid)}: give a dict with a list of '
      "values by key, such as {'optim.lr': [0.001, 0.01]}"
    )
  checked: dict[str, list] = {}
  for key, values in grid.items():
    key = key.strip().removeprefix('config.')
    if isinstance(values, str) or not isinstance(values, Iterable):
      raise errors.UserError(
        f'the grid has {values!r} for {key}: give a list of values'
      )
    checked[key] = [
      x.item() if isinstance(x, np.generic) else x for x in values
    ]
    if not checked[key]:
      raise errors.UserError(
        f'the grid has no value for {key}: give a list of at least one'
      )
  if 'seed' in checked:
    raise errors.UserError(
      'seed cannot be a key of the grid: the number of seeds (--seeds) gives '
      'each setting the seeds config.seed, config.seed + 1 and so on'
    )
  return checked


def plan(
  cls: type, config: ConfigDict, grid: Mapping[str, list], seeds: int
) -> list[PlannedRun]:
  """A run for each seed and setting, first all settings of the first seed.
  `cls` is the Config of the stage, `grid` a result of check(). Raises UserError
  for unknown keys, values that they cannot have, and equal settings."""
  settings: dict[str, dict] = {}
  for values in itertools.product(*grid.values()):
    setting = dict(zip(grid, values))
    options: Any = configs.build(cls, configs.with_values(config, setting))
    tree = dataclasses.asdict(options)
    name = setting_name({key: value_of(tree, key) for key in sorted(grid)})
    if name in settings:
      raise errors.UserError(f'the grid has the setting {name} twice')
    settings[name] = tree
  runs = []
  for n in range(seeds):
    for name, tree in settings.items():
      seed = tree['seed'] + n
      folder = f'{name}/seed-{seed}' if name else f'seed-{seed}'
      runs.append(PlannedRun(name=folder, config=tree | dict(seed=seed)))
  return runs


def setting_name(setting: Mapping[str, Any]) -> str:
  """A name for the folder of a setting: key=value,key=value. Values that are
  long or have other characters than letters, digits and .+_- are shortened and
  get a digest."""
  name = ','.join(f'{key}={_value_name(x)}' for key, x in setting.items())
  if len(name) <= NAME_LENGTH:
    return name
  digest = _digest(name)
  return f'{name[: NAME_LENGTH - len(digest) - 1]}-{digest}'


def value_of(tree: Mapping, key: str) -> Any:
  """The value of a dotted key in nested dicts, a dict if it is a section, or
  ABSENT. Keys of the dicts may have dots themselves."""
  if key in tree:
    return tree[key]
  for name, section in tree.items():
    if isinstance(section, Mapping) and key.startswith(f'{name}.'):
      return value_of(section, key.removeprefix(f'{name}.'))
  return ABSENT


def value_text(value: Any) -> str:
  """A value as text, the same for equal values."""
  if isinstance(value, (Mapping, list, tuple)):
    return json.dumps(value, sort_keys=True)
  return str(value)


def _value_name(value):
  text = value_text(value)
  if SAFE.fullmatch(text):
    return text
  end = UNSAFE.sub('_', text).strip('_')[-30:]  # of a path the end says most
  return f'{end}-{_digest(text)}'


def _digest(text):
  return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
