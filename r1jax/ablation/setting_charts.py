"""Charts of all metrics of compared runs: a curve for each setting."""

from collections.abc import Sequence

import numpy as np

from r1jax.ablation.run_files import LoadedRun, Setting
from r1jax.evaluation import statistics
from r1jax.reports import curves, metric_texts, run_metrics
from r1jax.reports.charts import Chart, Series
from r1jax.reports.metric_texts import Panel
from r1jax.reports.run_metrics import Curve


def sections(settings: Sequence[Setting]) -> dict[str, list[Chart]]:
  """The charts by section, as in the report of a run, with one metric each."""
  runs = [run for setting in settings for run in setting.runs]
  made: dict[str, list[Chart]] = {}
  for title, filled in run_metrics.sections(_all_curves(runs)).items():
    made[title] = []
    for panel, names in filled:
      for name in names:
        made[title].append(_chart(panel, name, len(names), settings))
  return made


def _all_curves(runs: Sequence[LoadedRun]) -> dict[str, Curve]:
  """The values of all runs by metric, to find out which panels are filled."""
  found: dict[str, list[float]] = {}
  for run in runs:
    for name, values in run.metrics.items():
      found.setdefault(name, []).extend(values.values())
  made = {}
  for name, numbers in found.items():
    made[name] = Curve(np.arange(len(numbers)), np.array(numbers))
  return made


def _chart(
  panel: Panel, name: str, in_panel: int, settings: Sequence[Setting]
) -> Chart:
  """The means over seeds of a metric, with intervals."""
  series = []
  for setting in settings:
    one = setting_series(setting, name)
    if one is not None:
      series.append(one)
  title = panel.title
  if in_panel > 1:
    title = f'{panel.title}: {run_metrics.curve_label(name)}'
  sentence = metric_texts.meaning(name)
  return Chart(
    title=title,
    unit=panel.unit.removesuffix(', 95 % interval'),
    series=series,
    sentences=[('', sentence)] if sentence else [],
    least=panel.least,
    largest=panel.largest,
    is_exact=panel.is_exact,
  )


def setting_series(setting: Setting, name: str) -> Series | None:
  """The mean over the seeds of a setting at the steps that its runs with this
  metric have in common, with the 95 % interval of Student's t; None without
  such a step."""
  runs = [run for run in setting.runs if run.metrics.get(name)]
  if not runs:
    return None
  steps = sorted(set.intersection(*[set(run.metrics[name]) for run in runs]))
  if not steps:
    return None
  own = Setting(values=setting.values, label=setting.label, runs=runs)
  values_ST = np.stack(list(own.by_seed(name, steps).values()))
  mean_T, low_T, high_T = values_ST.mean(axis=0), None, None
  if len(values_ST) > 1:
    if len(steps) > curves.SMOOTH_FROM:  # the interval of the smoothed curves
      values_ST = np.stack([curves.smooth(values_T) for values_T in values_ST])
    margin_T = statistics.t_margin(values_ST)
    centre_T = values_ST.mean(axis=0)
    low_T, high_T = centre_T - margin_T, centre_T + margin_T
  return Series(
    label=setting.label,
    steps=np.array(steps),
    values=mean_T,
    low=low_T,
    high=high_T,
  )
