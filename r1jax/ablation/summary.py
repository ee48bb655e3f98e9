"""The numbers and the notes of a comparison."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from r1jax.ablation.grid import value_of, value_text
from r1jax.ablation.run_files import LoadedRun, Setting
from r1jax.evaluation import statistics


def table(
  settings: Sequence[Setting], base: Setting, metric: str, steps: Sequence[int]
) -> list[dict[str, Any]]:
  """Comparison.settings, from the means over `steps`."""
  rows = []
  base_values = _means(base, metric, steps)
  for setting in settings:
    values = _means(setting, metric, steps)
    row: dict[str, Any] = dict(setting.values)
    row |= _mean_and_interval(list(values.values()))
    pairs = [
      values[seed] - base_values[seed] for seed in values if seed in base_values
    ]
    if setting is base:
      pairs = []
    paired = _mean_and_interval(pairs)
    row |= dict(
      difference=paired['mean'],
      difference_low=paired['low'],
      difference_high=paired['high'],
      pairs=paired['seeds'],
    )
    rows.append(row)
  return rows


def table_of_runs(
  settings: Sequence[Setting], metric: str, steps: Sequence[int]
) -> list[dict[str, Any]]:
  """Comparison.runs, from the means over `steps`."""
  rows = []
  for setting in settings:
    for run in setting.runs:
      value = np.mean([run.metrics[metric][step] for step in steps])
      row = dict(workdir=run.workdir, setting=setting.label)
      row |= dict(seed=value_of(run.config, 'seed'), value=float(value))
      rows.append(row)
  return rows


def notes_on_runs(
  runs: Sequence[LoadedRun],
  metric: str,
  steps: Sequence[int],
  other_keys: Sequence[str],
) -> list[str]:
  """Sentences about what makes the runs less comparable."""
  notes = []
  for key in other_keys:
    texts = [value_text(value_of(run.config, key)) for run in runs]
    values = ', '.join(dict.fromkeys(texts))
    notes.append(f'The runs also differ in {key}: {values}.')
  for run in runs:
    for change in run.changes:
      notes.append(
        f'{run.workdir} was continued with another {change["key"]} from step '
        f'{change["step"]} on: {change["old"]}, then {change["new"]}.'
      )
  ends = {max(run.metrics[metric]): run.workdir for run in runs}
  if len(ends) > 1:
    notes.append(
      f'{ends[min(ends)]} has {metric} up to step {min(ends)}, '
      f'{ends[max(ends)]} up to step {max(ends)}: all runs are compared at the '
      f'{len(steps)} steps that they have in common, up to step {steps[-1]}.'
    )
  elif any(len(run.metrics[metric]) != len(steps) for run in runs):
    notes.append(
      f'The runs have {metric} at different steps: they are compared at the '
      f'{len(steps)} steps that they have in common.'
    )
  if not any(run.is_finished for run in runs):
    notes.append('No run is finished.')
  return notes


def notes_on_seeds(settings: Sequence[Setting], base: Setting) -> list[str]:
  """Sentences about seeds that settings have several times, or do not share."""
  notes = []
  base_seeds = {value_of(run.config, 'seed') for run in base.runs}
  for setting in settings:
    seeds = {value_of(run.config, 'seed') for run in setting.runs}
    if len(seeds) < len(setting.runs):
      notes.append(
        f'{setting.label} has several runs with the same seed: their mean '
        'counts as one value.'
      )
    if not seeds & base_seeds:
      notes.append(
        f'{setting.label} has no seed in common with {base.label}, so there is '
        'no paired difference.'
      )
  return notes


def _means(setting, metric, steps):
  """The mean of the metric over the steps by seed."""
  curves = setting.by_seed(metric, steps)
  return {seed: float(values.mean()) for seed, values in curves.items()}


def _mean_and_interval(values):
  """seeds, mean, std, low and high of a list of numbers; None where there are
  too few."""
  row = dict(seeds=len(values), mean=None, std=None, low=None, high=None)
  if values:
    row['mean'] = mean = float(np.mean(values))
  if len(values) > 1:
    margin = float(statistics.t_margin(values))
    row |= dict(std=float(np.std(values, ddof=1)), low=mean - margin)
    row['high'] = mean + margin
  return row
