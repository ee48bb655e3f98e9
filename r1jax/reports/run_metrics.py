"""The metrics of a run as curves, and the charts that show them."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from r1jax.reports import curves, metric_texts
from r1jax.reports.charts import Chart, Mark, Series
from r1jax.reports.metric_texts import Panel

OTHERS = 'Other metrics'


class Curve(NamedTuple):
  """The values of a metric at the steps that have it, NaN if not finite."""

  steps: np.ndarray
  values: np.ndarray


Curves = Mapping[str, Curve]


def read(lines: Iterable[object]) -> dict[str, Curve]:
  """The curves of the lines of metrics.jsonl. A step may have several lines; the
  last value counts. What is no number is missing."""
  found: dict[str, dict[int, float]] = collections.defaultdict(dict)
  for line in lines:
    if not isinstance(line, dict) or type(line.get('step')) is not int:
      continue
    for name, value in line.items():
      if name != 'step':
        is_number = isinstance(value, int | float)
        found[name][line['step']] = float(value) if is_number else np.nan
  made = {}
  for name, values in found.items():
    steps = np.array(sorted(values))
    made[name] = Curve(
      steps, curves.clean(np.array([values[step] for step in steps.tolist()]))
    )
  return made


def shown(panel: Panel, found: Curves) -> list[str]:
  """The metrics that a panel shows: those with a number and, in a panel that
  hides zero, with another number than 0."""
  names = []
  for name in metric_texts.names_of(panel, found):
    values = found[name].values
    if not np.isfinite(values).any():
      continue
    if not panel.hides_zero or np.nan_to_num(values).any():
      names.append(name)
  return names


def sections(found: Curves) -> dict[str, list[tuple[Panel, list[str]]]]:
  """The panels of each section that have something to show, with the names of
  their metrics; metrics that r1jax does not know come last."""
  made, known = {}, set(metric_texts.BESIDE)
  for title, panels in metric_texts.SECTIONS.items():
    filled = []
    for panel in panels:
      known.update(metric_texts.names_of(panel, found))
      names = shown(panel, found)
      if names:
        filled.append((panel, names))
    if filled:
      made[title] = filled
  own = []
  for name in found:
    if name not in known and np.isfinite(found[name].values).any():
      own.append((metric_texts.own_panel(name), [name]))
  if own:
    made[OTHERS] = own
  return made


def always_zero(found: Curves) -> list[str]:
  """The metrics that are left out, since they are always 0."""
  names = []
  for panel in metric_texts.panels():
    if panel.hides_zero:
      for name in metric_texts.names_of(panel, found):
        if name not in shown(panel, found):
          names.append(name)
  return names


def chart(
  panel: Panel, names: Sequence[str], found: Curves, marks: Sequence[Mark]
) -> Chart:
  """The chart of a panel of one run."""
  series = []
  by_sentence: dict[str, list[str]] = {}
  for name in names:
    low, high = interval(name, found)
    series.append(
      Series(
        label=curve_label(name),
        steps=found[name].steps,
        values=found[name].values,
        low=low,
        high=high,
      )
    )
    labels = by_sentence.setdefault(metric_texts.meaning(name), [])
    labels.append(curve_label(name))
  sentences = []
  for sentence, labels in by_sentence.items():
    if sentence:
      label = ', '.join(labels) if len(names) > 1 else ''
      sentences.append((label, sentence))
  return Chart(
    title=panel.title,
    unit=panel.unit,
    series=series,
    sentences=sentences,
    least=panel.least,
    largest=panel.largest,
    marks=marks,
    is_exact=panel.is_exact,
  )


def curve_label(name: str) -> str:
  """The name of a curve among those of its panel."""
  return 'weighted sum' if name == 'reward' else metric_texts.label(name)


def interval(
  name: str, found: Curves
) -> tuple[np.ndarray | None, np.ndarray | None]:
  """The ends of the interval of a metric at its steps; None, None without."""
  if name not in metric_texts.INTERVALS:
    return None, None
  ends = []
  for end in metric_texts.INTERVALS[name]:
    if end not in found:
      return None, None
    at = dict(zip(found[end].steps.tolist(), found[end].values))
    steps = found[name].steps.tolist()
    ends.append(np.array([at.get(step, np.nan) for step in steps]))
  return ends[0], ends[1]


def numbers(found: Curves) -> list[tuple[str, str, str, str]]:
  """(metric, first value, last value, meaning) of each metric."""
  rows = []
  for name, curve in found.items():
    values = curve.values[np.isfinite(curve.values)]
    ends = ('', '')
    if len(values):
      ends = (f'{values[0]:.4g}', f'{values[-1]:.4g}')
    rows.append((name, *ends, metric_texts.meaning(name)))
  return rows
