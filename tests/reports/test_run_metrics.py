"""Metrics become curves and panels; empty ones are left out."""

import json
import math

import numpy as np

from r1jax.models import moe
from r1jax.reports import header, metric_texts, run_metrics
from r1jax.reports.charts import Mark


def titles(*lines):
  filled = run_metrics.sections(run_metrics.read(lines))
  return [panel.title for section in filled.values() for panel, _ in section]


def test_missing_values_are_nan_and_the_last_line_of_a_step_counts():
  lines = [
    dict(step=2, kl=0.5, text='x', flag=True),
    dict(step=1, kl=None),
    dict(step=2, kl=0.25),
    dict(step=3, kl=math.inf),
    dict(kl=7),
    'no line',
  ]
  found = run_metrics.read(lines)
  steps, values = found['kl']
  assert steps.tolist() == [1, 2, 3]
  np.testing.assert_array_equal(values, [np.nan, 0.25, np.nan])
  assert np.isnan(found['text'].values).all()


def test_panels_without_numbers_are_left_out():
  assert titles(dict(step=1, kl=None, loss=0.0)) == ['Loss']
  assert titles() == []


def test_counts_that_are_always_zero_are_left_out_and_named():
  lines = [{'step': 1, 'verify/timeout': 0, 'verify/crashed': 2, 'skipped': 0}]
  found = run_metrics.read(lines)
  ((panel, names),) = run_metrics.sections(found)['Responses']
  assert panel.title == 'Failures of verifiers' and names == ['verify/crashed']
  assert run_metrics.always_zero(found) == ['verify/timeout', 'skipped']


def test_the_panels_of_routers_are_those_of_runs_with_experts():
  load_NE = np.array([[6, 2, 0, 4], [3, 3, 3, 3]])
  load = moe.load_metrics({moe.LOAD: load_NE})
  assert load == {'router/max_load': 1.5, 'router/dead_experts': 0.125}
  line = dict(step=1, reward=1.0)
  added = titles(line | load | {'router/flips': 0.01})[1:]
  assert added == [
    'Load of the busiest expert',
    'Experts without tokens',
    'Experts, sampler against trainer',
  ]


def test_metrics_of_the_users_code_have_panels():
  lines = [{'step': 1, 'objective/mine': 1.0, 'my number': 2.0, 'reward/r': 0}]
  assert titles(*lines) == ['Reward', 'Metrics of the objective', 'my number']


def test_the_interval_belongs_to_the_held_out_score():
  lines = [{'step': 0, 'eval/pass1': 0.5, 'eval/low': 0.25, 'eval/high': 0.75}]
  lines.append({'step': 1, 'eval/pass1': 0.5})
  found = run_metrics.read(lines)
  ((panel, names),) = run_metrics.sections(found)['Results']
  (series,) = run_metrics.chart(panel, names, found, []).series
  np.testing.assert_array_equal(series.low, [0.25, np.nan])
  np.testing.assert_array_equal(series.high, [0.75, np.nan])


def test_curves_with_one_meaning_share_its_sentence():
  found = run_metrics.read([{'step': 1, 'reward/a': 1.0, 'reward/b': 0.0}])
  ((panel, names),) = run_metrics.sections(found)['Results']
  chart = run_metrics.chart(panel, names, found, [])
  assert chart.sentences == [('a, b', metric_texts.meaning('reward/a'))]


def test_every_sentence_ends_and_is_in_the_documentation():
  text = metric_texts.markdown()
  for panel in metric_texts.panels():
    for pattern, sentence in panel.metrics.items():
      assert sentence.endswith('.') and sentence[0].isupper()
      assert f'| `{pattern}` |' in text
  rows = text.splitlines()
  assert all(row.count('|') == 4 for row in rows)


def test_durations_have_two_units():
  assert header.duration(3.25) == '3.25 s'
  assert header.duration(125) == '2 min 5 s'
  assert header.duration(3 * 86400 + 7300) == '3 d 2 h'
  assert header.duration(math.nan) == '?'


def test_a_run_of_one_step_has_its_figures():
  found = run_metrics.read([{'step': 1, 'reward': 0.5, 'seconds': 2.0}])
  rows = header.tiles(found, 140, is_finished=False)
  assert rows == [
    ('reward', '0.5 → 0.5', 'first and last step'),
    ('steps', '1 of 140', 'not finished'),
    ('time in steps', '2 s', 'median 2 s a step'),
  ]


def test_a_continued_run_has_marks_and_says_so():
  starts = [
    dict(step=0, time='2026-11-28 05:00:00', devices='1 cpu', processes=2),
    dict(step=50, time='2026-11-28 06:30:00', devices='8 TPU v5e', host='h'),
  ]
  changes = [dict(step=70, key='optim.lr', old=0.1, new=0.2)]
  assert header.marks(changes, starts) == [
    Mark(50, 'continued from step 50'),
    Mark(70, 'from step 70, optim.lr: 0.1 → 0.2'),
  ]
  rows = dict(header.fact_rows(dict(init='m', data='d'), starts, {}, {}))
  assert rows['device'] == '8 TPU v5e, host h'
  assert rows['began'] == (
    '2026-11-28 05:00:00; continued from step 50, the last time 1 h 30 min later'
  )
  html = header.config_difference({'a': [1, '<2>']}, changes)
  assert json.dumps('<2>') not in html and '&lt;2&gt;' in html
