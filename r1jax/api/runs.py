"""Runs stages from Python, and handles of their work directories."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r1jax import cli, errors, files, user_code
from r1jax import config as configs
from r1jax.api import (
  configure,
  recomputed_tokens,
  replay,
  work_directory,
)
from r1jax.api.model import Model, Response
from r1jax.api.run_samples import RunSamples
from r1jax.api.work_directory import WorkDirectory
from r1jax.data import run_date
from r1jax.distributed import programs
from r1jax.evaluation import tables
from r1jax.reports import elements
from r1jax.sampling.decode import SampleConfig
from r1jax.stages import report, rl
from r1jax.training import checkpoint
from r1jax.training.config_changes import Change

# The key of the records of a stage.
RECORDS = dict(
  rl='prompts', sft='data', reject='data', reward_model='data', verify='data'
)
# The last values that a notebook shows of a run.
SHOWN = (
  'reward',
  'reward/accuracy',
  'eval/pass1',
  'loss',
  'eval/loss',
  'length',
)


class Run:
  """A handle of a run's work directory; run() and open_run() make it."""

  def __init__(self, workdir: Path) -> None:
    self.workdir = workdir
    self._model: tuple[Any, Model] | None = None  # the last one, by its step

  @property
  def stage(self) -> str:
    """The name of the stage."""
    return self._read().stage_name

  @property
  def config(self) -> Any:
    """The frozen config that was last in force."""
    return work_directory.config_at(self._read())

  @property
  def metrics(self) -> Any:
    """A row an update: a pandas DataFrame if pandas is installed, else a list
    of dicts."""
    return tables.data_frame(self._lines())

  def samples(self, step: int) -> RunSamples:
    """The rollout that an update of an rl run learned from, recomputed from the
    newest checkpoint before it: texts, rewards, and the log-probability,
    advantage, ratio and entropy of each token."""
    programs.compilation_cache()
    return replay.samples_of(self._read(), step)

  def load(self, step: int | str | None = None) -> Model:
    """The model of the run, or that of the checkpoint of a step, of 'best' or
    of 'last'."""
    directory, number = self._read(), None
    newest = max(checkpoint.saved_scores(directory.checkpoints), default=0)
    if step is not None:
      number = work_directory.step_of(directory, str(step))
    key = number, newest  # the model of a run is replaced if it is extended
    if self._model is None or self._model[0] != key:
      programs.compilation_cache()
      dtype = work_directory.config_at(directory).compute.dtype
      policy = work_directory.policy_at(directory, number, dtype)
      self._model = key, Model(policy)
    return self._model[1]

  def generate(
    self,
    prompts: Sequence[str | dict],
    group: int = 1,
    max_new_tokens: int | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    step: int | str | None = None,
  ) -> list[list[Response]]:
    """`group` responses to each prompt, a text or a record, of load(step), with
    the template, the prefill, the stop strings and the tool of the run."""
    directory, model = self._read(), self.load(step)
    config, sample = work_directory.config_at(directory), SampleConfig()
    if directory.stage is rl:
      sample = config.sample
    if max_new_tokens is not None:
      sample = dataclasses.replace(sample, max_new_tokens=max_new_tokens)
    sample = dataclasses.replace(sample, temperature=temperature)
    with run_date.at(directory.record.date):
      return model.sample(prompts, group, seed, config.prompt, sample)

  def report(self, tokens: int | None = None) -> Path:
    """Writes report.html with curves and samples; its path. With the number of
    an update it also shows ratio, entropy and log-probability of the tokens of
    its rollout, which is recomputed."""
    if tokens is not None:
      recomputed_tokens.add(self.workdir, tokens)
    return report.write(self.workdir)

  def __repr__(self) -> str:
    return f"Run('{self.workdir}')"

  def _repr_html_(self) -> str:
    lines, rows = self._lines(), [('stage', self.stage)]
    if lines:
      is_finished = (self.workdir / 'model').exists()
      end = '' if is_finished else ' (not finished)'
      rows.append(('steps', f'{lines[-1]["step"]}{end}'))
    for name in SHOWN:
      values = [line[name] for line in lines if line.get(name) is not None]
      if values:
        rows.append((name, f'{values[-1]:.4g}'))
    return elements.table([str(self.workdir), ''], rows)

  def _read(self) -> WorkDirectory:
    return work_directory.read(self.workdir)

  def _lines(self) -> list[dict]:
    path = self.workdir / 'metrics.jsonl'
    return files.read_jsonl(path) if path.exists() else []


def run(
  config: Any,
  workdir: str | Path,
  *,
  rewards: Mapping[str | Callable, float] | None = None,
  records: Iterable[dict] | Callable | str | Path | None = None,
  change: Mapping[str, Any] | None = None,
  accept_code: bool = False,
  accept_inputs: bool = False,
) -> Run:
  """Runs the stage of a config (see configure; also that of a Run, or the path
  of a config file) in this process. Returns a handle of its work directory.

  As on the command line, a work directory that is finished is not run again,
  and one that was interrupted goes on from its newest checkpoint. `rewards` and
  `records` replace the config's rewards and training records (`prompts` of rl,
  `data` of other stages). Records are dicts, a function (seed) -> dicts, or a
  text as in a config file. `change`, `accept_code` and `accept_inputs` are
  --change, --accept-code and --accept-inputs: the values of keys from the
  newest checkpoint on, and that changed code of the user, or changed files, are
  used from there on.
  """
  folder = files.local_folder(workdir, 'the work directory')
  config = configs.as_settings(config)
  values = _changed_values(change)
  name = configure.stage_name(config)
  stage = cli.load_stage(name)
  keys: dict[str, Any] = {}
  if rewards is not None:
    keys['rewards'] = rewards
  if records is not None:
    if name not in RECORDS:
      raise errors.UserError(
        f'{name} reads several sets of records: set them in the config, such '
        "as config.data = {'NAME': records}"
      )
    keys[RECORDS[name]] = _records(records)
  settings = configure.changed(stage, config, keys)
  values = configure.dotted(stage, values)
  wanted = Change(values, accept_code, accept_inputs)
  cli.run_stage(stage, settings, folder, wanted)
  return Run(folder)


def open_run(workdir: str | Path) -> Run:
  """A handle of the work directory of a run, finished or not."""
  folder = files.local_folder(workdir, 'the work directory')
  work_directory.read(folder)
  return Run(folder)


def _changed_values(change):
  """The values of `change` by key, without 'config.'."""
  change = {} if change is None else change
  if not isinstance(change, Mapping) or not all(
    isinstance(key, str) for key in change
  ):
    raise errors.UserError(
      f'change is {user_code.describe(change)}: give a dict of values by key, '
      "such as change={'steps': 200}"
    )
  return {key.removeprefix('config.'): value for key, value in change.items()}


def _records(records):
  """The value of the key of the records."""
  if isinstance(records, str | Path):
    return str(records)
  if callable(records):
    return records
  if isinstance(records, Mapping) or not isinstance(records, Iterable):
    raise errors.UserError(
      f'records is {user_code.describe(records)}: give a list of dicts, a '
      'function (seed) -> records, or a text such as FILE.py:NAME'
    )
  rows = list(records)
  if not rows:
    raise errors.UserError('no records are given: records is empty')
  for n, row in enumerate(rows):
    if not isinstance(row, dict):
      raise errors.UserError(
        f'record {n} is {user_code.describe(row)}: give a dict with the key '
        "'prompt'"
      )
  return rows
