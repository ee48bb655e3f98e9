"""Compares runs over seeds: curves, means, paired differences."""

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from r1jax import config as configs
from r1jax import errors, user_code
from r1jax.ablation import comparison, setting_charts, summary
from r1jax.ablation.comparison import Comparison
from r1jax.ablation.grid import ABSENT, value_of
from r1jax.ablation.run_files import LoadedRun, Setting, group, load_all
from r1jax.stages import reward_model, rl, sft

STAGES = dict(rl=rl, sft=sft, reward_model=reward_model)
# The metric of a comparison is by default the first that all runs have.
METRICS = (
  'eval/pass1',
  'eval/accuracy',
  'eval/reward',
  'eval/loss',
  'reward',
  'loss',
)


@runtime_checkable
class HasWorkdir(Protocol):
  @property
  def workdir(self) -> str | Path: ...


def compare(
  runs: Sequence[str | Path | HasWorkdir],
  by: str | Sequence[str] | None = None,
  metric: str | None = None,
  baseline: Any = None,
) -> Comparison:
  """Compares the settings of the config keys `by` over the seeds of their runs,
  which are given as work directories or as objects with a workdir.

  By default `by` are all keys in which the runs differ, except the seed. The
  settings are compared to the first, or to that with the value `baseline` of
  the key (a tuple for several keys). If some of the runs are finished, the
  others are left out. All are compared at the steps that they have in common.
  """
  loaded, left_out = load_all(work_directories(runs))
  check_one_stage(loaded)
  metric = metric or default_metric(loaded)
  for run in loaded:
    if metric not in run.metrics:
      left_out[run.workdir] = f'has no {metric}'
  loaded = with_metric(loaded, metric)
  keys, other_keys = compared_keys(loaded, by)
  settings = group(loaded, keys)
  base = find_baseline(settings, keys, baseline)
  steps = common_steps(loaded, metric)
  last_steps, value = value_steps(metric, steps)
  notes = [
    "Intervals: 95 %, Student's t over the seeds. Differences: to "
    f'{base.label}, between runs with the same seed.',
    *summary.notes_on_runs(loaded, metric, steps, other_keys),
    *summary.notes_on_seeds(settings, base),
    *(f'{folder} {reason}: left out.' for folder, reason in left_out.items()),
  ]
  curves = {}
  for setting in settings:
    by_seed = setting.by_seed(metric, steps)
    curves[setting.label] = np.stack(list(by_seed.values()))
  return Comparison(
    value=value,
    keys=tuple(keys),
    settings=summary.table(settings, base, metric, last_steps),
    runs=summary.table_of_runs(settings, metric, last_steps),
    left_out=left_out,
    notes=notes,
    figure=comparison.draw(metric, np.array(steps), curves),
    charts=setting_charts.sections(settings),
  )


def work_directories(
  runs: Iterable[str | Path | HasWorkdir],
) -> list[Path]:
  """The work directories of runs. Raises UserError for other objects."""
  if isinstance(runs, str | os.PathLike) or not isinstance(runs, Iterable):
    raise errors.UserError(
      f'the runs are {runs!r}: give a list of work directories or Runs'
    )
  folders = []
  for n, run in enumerate(runs):
    if isinstance(run, str | os.PathLike):
      folders.append(Path(run))
    elif isinstance(run, HasWorkdir):
      folders.append(Path(run.workdir))
    else:
      raise errors.UserError(
        f'run {n} of the list is {user_code.describe(run)}: give a work '
        'directory or a Run'
      )
  return folders


def check_one_stage(runs: Sequence[LoadedRun]) -> None:
  """Raises UserError for runs of different stages, which differ in most keys."""
  first, *others = runs
  classes = {name: stage.Config for name, stage in STAGES.items()}
  stage = configs.nearest(first.config, classes)
  for run in others:
    other = configs.nearest(run.config, classes)
    if other != stage:
      raise errors.UserError(
        f'{first.workdir} is a run of {stage}, and {run.workdir} of {other}: '
        'compare runs of one stage'
      )


def default_metric(runs: Sequence[LoadedRun]) -> str:
  """The first of METRICS that all runs have."""
  for name in METRICS:
    if all(name in run.metrics for run in runs):
      return name
  raise errors.UserError(
    f'the runs have none of {", ".join(METRICS)} in common: choose a metric '
    f'that they have: {", ".join(_metrics(runs)) or "there is none"}'
  )


def with_metric(runs: Sequence[LoadedRun], metric: str) -> list[LoadedRun]:
  """The runs that have the metric. Raises UserError if there is none."""
  found = [run for run in runs if metric in run.metrics]
  if not found:
    raise errors.UserError(
      f'no run has the metric {metric}: choose one of '
      f'{", ".join(_metrics(runs)) or "(there is none)"}'
    )
  return found


def compared_keys(
  runs: Sequence[LoadedRun], by: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
  """(the compared keys, the other keys in which the runs differ)."""
  differing: dict[str, Any] = {}
  for run in runs:
    differing |= configs.changes(runs[0].config, run.config)
  differing.pop('seed', None)
  if by is None:
    return list(differing), []
  keys = [by] if isinstance(by, str) else list(by)
  keys = [key.removeprefix('config.') for key in keys]
  for key in keys:
    if all(value_of(run.config, key) == ABSENT for run in runs):
      known = list(configs.changes(runs[0].config, {}))
      near = difflib.get_close_matches(key, known, 1)
      hint = f': did you mean {near[0]}?' if near else ''
      raise errors.UserError(f'no run has the key {key}{hint}')
  others = []
  for name in differing:
    if not any(f'{name}.'.startswith(f'{key}.') for key in keys):
      others.append(name)
  return keys, others


def find_baseline(
  settings: Sequence[Setting], keys: Sequence[str], baseline: Any
) -> Setting:
  """The setting with the values `baseline`, by default the first."""
  if baseline is None:
    return settings[0]
  values = [baseline]
  if len(keys) > 1 and isinstance(baseline, list | tuple):
    values = list(baseline)
  for setting in settings:
    if list(setting.values.values()) == values:
      return setting
  labels = '; '.join(setting.label for setting in settings)
  raise errors.UserError(
    f'no setting has the values {baseline!r} of {", ".join(keys)} for a '
    f'baseline: there are {labels}'
  )


def common_steps(runs: Sequence[LoadedRun], metric: str) -> list[int]:
  """The steps at which all runs have the metric."""
  common = set.intersection(*[set(run.metrics[metric]) for run in runs])
  if not common:
    raise errors.UserError(
      f'there is no step at which all runs have {metric}: compare fewer runs, '
      'or another metric'
    )
  return sorted(common)


def value_steps(metric: str, steps: list[int]) -> tuple[list[int], str]:
  """The steps whose mean is the value of a run, and a name of the value. It is
  the last step of a held-out metric and the last tenth of the steps of others,
  which vary more."""
  tenth = max(1, round(len(steps) / 10))
  last = steps[-1:] if metric.startswith('eval/') else steps[-tenth:]
  if len(last) == 1:
    return last, f'{metric} at step {last[0]}'
  return (
    last,
    f'{metric}, mean of {len(last)} steps from {last[0]} to {last[-1]}',
  )


def _metrics(runs):
  return sorted({name for run in runs for name in run.metrics})
