"""The charts of the report: training curves and ablations."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from r1jax.reports import run_metrics
from r1jax.reports.charts import Chart, Series


class Ablation(NamedTuple):
  """The values of one key. The default value has no run of its own."""

  title: str
  key: str  # in the names of the runs
  values: Sequence[str]
  default: str | None
  symbol: str


class Curve(NamedTuple):
  """The same curve of several seeds."""

  runs: Sequence[str]
  label: str


ABLATIONS = (
  Ablation(
    title='Group size G, 256 samples a step',
    key='group_size',
    values=('4', '8', '16', '32'),
    default='16',
    symbol='G',
  ),
  Ablation(
    title='KL coefficient β',
    key='kl_coef',
    values=('0', '0.001', '0.1'),
    default='0',
    symbol='β',
  ),
  Ablation(
    title='Clip range ε, 4 updates a rollout',
    key='clip',
    values=('0.2', '1.0', '10.0'),
    default=None,
    symbol='ε',
  ),
  Ablation(
    title='Max. tokens of a response',
    key='max_new_tokens',
    values=('11', '14', '17', '20'),
    default='20',
    symbol='',
  ),
)
ZERO = Curve(('zero', 'zero-1', 'zero-2'), 'R1-Zero')
DEV2 = Curve(('dev2', 'dev2-1', 'dev2-2'), 'Dev2: with language reward')
NO_LANGUAGE = Curve(('no_language',), 'without')
R1 = Curve(('r1', 'r1-1', 'r1-2'), 'R1: preferences in the last half')
EARLY = Curve(
  ('early_preferences', 'early_preferences-1', 'early_preferences-2'),
  'preferences from step 0',
)
PANELS = (
  ('R1-Zero: held-out pass@1', 'eval/pass1', (ZERO,)),
  ('R1-Zero: response length', 'eval/length', (ZERO,)),
  ('Language consistency', 'eval/reward/language', (DEV2, NO_LANGUAGE)),
  ('Language reward: held-out pass@1', 'eval/pass1', (DEV2, NO_LANGUAGE)),
  ('Preferences: rule accuracy', 'eval/pass1', (R1, EARLY)),
  ('Preferences: helpful reward model', 'eval/reward/helpful', (R1, EARLY)),
)


def training_charts(run) -> list[Chart]:
  """Zero, the language reward and the preference rewards over training."""
  charts = []
  for title, metric, shown in PANELS:
    unit = 'tokens' if metric == 'eval/length' else ''
    series = [mean_and_range(run, metric, curve) for curve in shown]
    charts.append(Chart(title=title, unit=unit, series=series))
  return charts


def mean_and_range(run, metric: str, curve: Curve) -> Series:
  """The mean over the seeds and their range; of one seed its interval."""
  found = [run_metrics.read(run.metrics(name)) for name in curve.runs]
  if len(found) == 1:
    low, high = run_metrics.interval(metric, found[0])
    steps, values = found[0][metric]
    return Series(curve.label, steps, values, low, high)
  common = set.intersection(*[set(one[metric].steps.tolist()) for one in found])
  steps = np.array(sorted(common))
  values_ST = np.stack(
    [one[metric].values[np.isin(one[metric].steps, steps)] for one in found]
  )
  return Series(
    label=f'{curve.label}, mean and range of {len(found)} seeds',
    steps=steps,
    values=values_ST.mean(axis=0),
    low=values_ST.min(axis=0),
    high=values_ST.max(axis=0),
  )


def ablation_charts(run) -> list[Chart]:
  """The accuracy of the rollouts of each ablation."""
  charts = []
  for ablation in ABLATIONS:
    series = []
    for value in ablation.values:
      lines = run.metrics(f'ablation/{run_name(ablation, value)}')
      steps, values = run_metrics.read(lines)['reward/accuracy']
      label = f'{ablation.symbol} {value}'.strip()
      series.append(Series(label, steps, values))
    charts.append(
      Chart(title=ablation.title, unit='accuracy of rollouts', series=series)
    )
  return charts


def ablation_rows(run) -> list[tuple[str, ...]]:
  """(key, value, pass@1 with its interval, tokens) of the last evaluations."""
  rows = []
  for ablation in ABLATIONS:
    for value in ablation.values:
      lines = run.metrics(f'ablation/{run_name(ablation, value)}')
      last = [line for line in lines if 'eval/pass1' in line][-1]
      interval = f'[{last["eval/low"]:.3f}, {last["eval/high"]:.3f}]'
      pass1 = f'{last["eval/pass1"]:.3f} {interval}'
      rows.append((ablation.title, value, pass1, f'{last["eval/length"]:.1f}'))
  return rows


def run_name(ablation: Ablation, value: str) -> str:
  return 'default' if value == ablation.default else f'{ablation.key}-{value}'
