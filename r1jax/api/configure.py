"""Configs in Python: the keys of a stage, changed and checked."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, overload

from ml_collections import ConfigDict

from r1jax import cli, errors
from r1jax import config as configs

if TYPE_CHECKING:
  from r1jax.evaluation.evaluate_config import Config as EvaluateConfig
  from r1jax.rejection.reject_config import Config as RejectConfig
  from r1jax.rl.rl_config import Config as RlConfig
  from r1jax.stages.reward_model import Config as RewardModelConfig
  from r1jax.stages.sft import Config as SftConfig
  from r1jax.stages.verify import Config as VerifyConfig

# The stages that have a config and a work directory.
STAGES = 'sft', 'rl', 'reject', 'reward_model', 'evaluate', 'verify'

# An editor completes the keys of the declared class. The object itself is a
# ConfigDict with the same keys, which can be set.


@overload
def configure(stage: Literal['rl'], **keys: Any) -> 'RlConfig': ...
@overload
def configure(stage: Literal['sft'], **keys: Any) -> 'SftConfig': ...
@overload
def configure(stage: Literal['reject'], **keys: Any) -> 'RejectConfig': ...
@overload
def configure(stage: Literal['evaluate'], **keys: Any) -> 'EvaluateConfig': ...
@overload
def configure(stage: Literal['verify'], **keys: Any) -> 'VerifyConfig': ...
@overload
def configure(
  stage: Literal['reward_model'], **keys: Any
) -> 'RewardModelConfig': ...
@overload
def configure(stage: str | Path, **keys: Any) -> Any: ...


def configure(stage: str | Path, **keys: Any) -> Any:
  """The config of a stage, or of a config file, with some keys set.

  A section is set by a dict of some of its keys, `grpo=dict(kl_coef=0.0)`, or
  key by key, `**{'grpo.kl_coef': 0.0}`. Functions and lists of records are
  values too. Raises UserError for an unknown key or a value of a wrong type.
  Keys of the result can be set: `config.grpo.kl_coef = 0.0`.
  """
  if str(stage) in STAGES:
    module = cli.load_stage(str(stage))
    settings = configs.defaults(module.Config)
  elif str(stage).endswith('.py'):
    settings = configs.load_file(stage)
    module = stage_of(settings)
  else:
    near = difflib.get_close_matches(str(stage), STAGES, 1)
    hint = f'did you mean {near[0]}? ' if near else ''
    raise errors.UserError(
      f'there is no stage {stage}: {hint}There are {", ".join(STAGES)}, and '
      'config files FILE.py'
    )
  return changed(module, settings, keys)


def changed(
  stage: ModuleType, settings: ConfigDict, keys: Mapping[str, Any]
) -> ConfigDict:
  """The settings of a stage with some keys set, checked."""
  settings = configs.with_values(settings, dotted(stage, keys))
  return configs.settings(configs.build(stage.Config, settings))


def stage_of(keys: Iterable[str]) -> ModuleType:
  """The module of the stage whose config has these keys, or most of them."""
  return cli.load_stage(stage_name(keys))


def stage_name(keys: Iterable[str]) -> str:
  """The name of stage_of(keys)."""
  classes = {name: cli.load_stage(name).Config for name in STAGES}
  return configs.nearest(keys, classes)


def dotted(stage: ModuleType, keys: Mapping[str, Any]) -> dict[str, Any]:
  """{dotted key: value} of nested dicts. A dict is the value of a key that is
  not a section."""
  names = [name for name, _, _ in configs.named_options(stage.Config())]
  values: dict[str, Any] = {}
  for name, value in keys.items():
    is_section = any(option.startswith(f'{name}.') for option in names)
    if is_section and isinstance(value, Mapping | ConfigDict):
      inner = {f'{name}.{key}': x for key, x in value.items()}
      values |= dotted(stage, inner)
    else:
      values[name] = value
  return values
