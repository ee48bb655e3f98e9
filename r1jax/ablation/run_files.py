"""Reads the files of runs, and groups the runs by their settings."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r1jax import errors, files
from r1jax.ablation.grid import value_of, value_text
from r1jax.training import run_record


@dataclasses.dataclass(frozen=True)
class LoadedRun:
  """The config of a run and the finite values of its metrics."""

  workdir: Path
  config: dict  # all keys, nested
  changes: list[dict]  # of the config within the run, as in config.json
  metrics: dict[str, dict[int, float]]  # values by step, by metric
  last_step: int
  is_finished: bool


@dataclasses.dataclass(frozen=True)
class Setting:
  """The runs that have the same values of the compared keys."""

  values: dict[str, Any]  # by key
  label: str
  runs: list[LoadedRun]

  def by_seed(self, metric: str, steps: Sequence[int]) -> dict[Any, np.ndarray]:
    """The metric at these steps by seed; runs with the same seed are averaged."""
    found = collections.defaultdict(list)
    for run in self.runs:
      values = [run.metrics[metric][step] for step in steps]
      found[value_of(run.config, 'seed')].append(values)
    return {seed: np.mean(rows, axis=0) for seed, rows in found.items()}


def is_finished(folder: Path) -> bool:
  """Whether a run has written its model, which it does last."""
  return (folder / 'model').exists()


def load_all(
  folders: Iterable[Path],
) -> tuple[list[LoadedRun], dict[Path, str]]:
  """The runs to compare, and why the others are left out: those without files,
  and if some runs are finished those that are not. Raises UserError if there is
  no run."""
  loaded, left_out = [], {}
  for folder in dict.fromkeys(folders):
    if not (folder / 'config.json').exists():
      left_out[folder] = 'has no config.json of a run'
    elif not (folder / 'metrics.jsonl').exists():
      left_out[folder] = 'has no metrics'
    else:
      loaded.append(load(folder))
  if not loaded:
    reasons = [f'{folder} {reason}' for folder, reason in left_out.items()]
    more = f' (and {len(reasons) - 1} others)' if len(reasons) > 1 else ''
    why = f'{reasons[0]}{more}' if reasons else 'the list is empty'
    raise errors.UserError(f'there is no run to compare: {why}')
  finished = [run for run in loaded if run.is_finished]
  for run in loaded:
    if finished and not run.is_finished:
      left_out[run.workdir] = (
        f'is not finished (its last step: {run.last_step})'
      )
  return finished or loaded, left_out


def load(folder: Path) -> LoadedRun:
  """The run of a work directory."""
  record = run_record.read(folder)
  assert record, f'{folder} has no config.json'
  metrics: dict[str, dict[int, float]] = collections.defaultdict(dict)
  last_step = 0
  for line in files.read_jsonl(folder / 'metrics.jsonl'):
    last_step = line.pop('step')
    for name, value in line.items():
      if value is not None and math.isfinite(value):
        metrics[name][last_step] = value
  return LoadedRun(
    workdir=folder,
    config=record.config,
    changes=record.changes,
    metrics=dict(metrics),
    last_step=last_step,
    is_finished=is_finished(folder),
  )


def group(runs: Sequence[LoadedRun], keys: Sequence[str]) -> list[Setting]:
  """The settings of the runs, in the order in which they come first."""
  found: dict[str, Setting] = {}
  for run in runs:
    values = {key: value_of(run.config, key) for key in keys}
    texts = [f'{key}={value_text(value)}' for key, value in values.items()]
    label = ', '.join(texts) or 'all runs'
    setting = Setting(values=values, label=label, runs=[])
    found.setdefault(label, setting).runs.append(run)
  return list(found.values())
