"""Reads the work directory of a run: its stage, its config at a step, and the
models that it holds. Changes no file."""

import dataclasses
import json
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import jax

from r1jax import config as configs
from r1jax import errors, user_code
from r1jax.api import configure
from r1jax.checkpoints import policy
from r1jax.checkpoints.policy import ComputeConfig, Policy
from r1jax.stages import rl, sft
from r1jax.training import checkpoint, config_changes, inputs, run_record
from r1jax.training.run_record import RunRecord

NO_CHECKPOINT = (
  'no checkpoint yet: wait until its first, which config.save_every sets, or '
  'until its end'
)
Dtype = Literal['float32', 'bfloat16']


@dataclasses.dataclass(frozen=True)
class WorkDirectory:
  """A work directory and what its config.json records."""

  path: Path
  stage: ModuleType
  record: RunRecord

  @property
  def stage_name(self) -> str:
    return self.stage.__name__.rpartition('.')[2]

  @property
  def checkpoints(self) -> Path:
    return self.path / 'checkpoints'


def is_run(path: Path) -> bool:
  """Whether a stage has run in this directory."""
  content = _content(path)
  return isinstance(content, dict) and {'config', 'changed'} <= content.keys()


def read(path: Path) -> WorkDirectory:
  """The work directory of a run. Raises UserError if it is none."""
  if not is_run(path):
    raise errors.UserError(
      f'{path} is not the work directory of a run: it has no config.json that a '
      'stage has written'
    )
  record = run_record.read(path)
  assert record
  stage = configure.stage_of(record.config)
  return WorkDirectory(path=path, stage=stage, record=record)


def _content(path):
  """The content of config.json in a directory; None if there is none."""
  file = path / 'config.json'
  if not file.is_file():
    return None
  with errors.explained(f'{file} is not readable JSON'):
    return json.loads(file.read_text())


def config_at(directory: WorkDirectory, step: int | None = None) -> Any:
  """The config with which the run went on after `step` updates: without the
  later changes of config.json. None: the newest config."""
  record, cls = directory.record, directory.stage.Config
  config = config_changes.recorded_config(cls, record.config)
  names = {name for name, _, _ in configs.named_options(config)}
  values = {}
  for entry in reversed(record.changes):
    is_later = step is not None and entry['step'] > step
    if is_later and entry['key'] in names:  # not that of a changed file
      values[entry['key']] = entry['old']
  settings = configs.with_values(configs.settings(config), values)
  tree = _with_digests(settings.to_dict(), record.code)
  return configs.build(cls, tree)


def _with_digests(value, code):
  """A value of config.json, in which names given in Python get the digests of
  `code`: the inverse of config_changes.plain()."""
  if isinstance(value, str):
    is_given = value.startswith(user_code.PYTHON) and value in code
    return f'{value}@{code[value]}' if is_given else value
  if isinstance(value, dict):
    with_digests = {}
    for key, item in value.items():
      with_digests[_with_digests(key, code)] = _with_digests(item, code)
    return with_digests
  if isinstance(value, tuple | list):
    return [_with_digests(item, code) for item in value]
  return value


def load(source: str, dtype: Dtype) -> Policy:
  """The policy of a model's directory, a GGUF file, a hub name, a finished run,
  or RUN@STEP, RUN@best, RUN@last."""
  directory, step = find(source)
  if directory is None:
    return policy.load(source, ComputeConfig(dtype=dtype), None, seed=0)
  return policy_at(directory, step, dtype)


def find(source: str) -> tuple[WorkDirectory | None, int | None]:
  """(the run that a source of `load` names, the step): no run for a model's
  directory, a GGUF file and a hub name, no step for the result of a run, which
  RUN and RUN/model name."""
  path, (run, at, step) = Path(source), source.rpartition('@')
  if at and not path.exists():
    directory = read(Path(run))
    return directory, step_of(directory, step)
  return run_of(path), None


def run_of(path: Path) -> WorkDirectory | None:
  """The run whose work directory is RUN or whose result is RUN/model; None if
  the path is of something else."""
  if path.name == 'model' and is_run(path.parent):
    return read(path.parent)
  return read(path) if is_run(path) else None


def policy_at(
  directory: WorkDirectory, step: int | None, dtype: Dtype
) -> Policy:
  """The policy of a checkpoint; None: the result of the run."""
  path, config = directory.path, config_at(directory)
  if directory.stage not in (rl, sft):
    raise errors.UserError(
      f'{path} is a run of {directory.stage_name}, which makes no policy'
    )
  result, compute = path / 'model', config.compute
  if step is None and not result.exists():
    scores = checkpoint.saved_scores(directory.checkpoints)
    if not scores:
      raise errors.UserError(f'{path} has no model and {NO_CHECKPOINT}')
    raise errors.UserError(
      f'{path} is not finished: it has no model yet, but checkpoints of '
      f'{_names(scores)}; the newest is {path}@last'
    )
  init = str(result) if result.exists() else config.init
  if not result.exists():
    _check_init(directory, init)
  scratch = config.scratch if directory.stage is sft else None
  compute = dataclasses.replace(compute, dtype=dtype)
  loaded = policy.load(init, compute, scratch, config.seed)
  if step is None:
    return loaded
  params = checkpoint.read_params(directory.checkpoints, step)
  if _shapes(params) != _shapes(loaded.params):
    raise errors.UserError(
      f'the checkpoints of {path} are of another model than {init}: put the '
      'model back with which the run began'
    )
  return loaded._replace(params=params)


def _check_init(directory, init):
  """Raises UserError if the model with which the run began, whose tokenizer and
  config go with its checkpoints, has changed."""
  old, difference = directory.record.inputs or {}, ''
  if 'init' in old:
    difference = inputs.difference(old['init'], inputs.of_source(init, 'model'))
  if difference:
    raise errors.UserError(
      f'config.init ({init}) has changed since the run in {directory.path} '
      f'began: {difference}: put the old files back'
    )


def _shapes(params):
  return jax.tree.map(lambda leaf: leaf.shape, params)


def step_of(directory: WorkDirectory, name: str) -> int:
  """The number of a step, of 'best' or of 'last'. Raises UserError if there is
  no such checkpoint."""
  scores = checkpoint.saved_scores(directory.checkpoints)
  scored = {step: x for step, x in scores.items() if x is not None}
  source = f'{directory.path}@{name}'
  if not scores and (directory.path / 'model').exists():
    raise errors.UserError(
      f'{directory.path} has no checkpoints; {directory.path} alone is its result'
    )
  if not scores:
    raise errors.UserError(f'{directory.path} has {NO_CHECKPOINT}')
  if name == 'last':
    return max(scores)
  if name == 'best' and scored:
    return max(scored, key=lambda step: (scored[step], step))
  if name == 'best':
    raise errors.UserError(
      f'{source}: no checkpoint has a held-out score; there are {_names(scores)}'
    )
  if name.isdecimal() and int(name) in scores:
    return int(name)
  raise errors.UserError(
    f'{source}: there is no such checkpoint; there are {_names(scores)}, and '
    'the names best and last'
  )


def _names(scores):
  """The steps of the checkpoints, as text."""
  return f'the steps {", ".join(map(str, scores))}'
