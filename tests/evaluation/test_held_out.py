"""pass@1 and its interval are over the same problems, whatever was judged."""

import math
import types

import numpy as np
import pytest

from r1jax import errors
from r1jax.evaluation import held_out, statistics
from r1jax.rewards.pending import Rewards

NAN = math.nan


def metrics(accuracy_PG):
  accuracy_PG = np.array(accuracy_PG, np.float32)
  group_size, accuracy_N = accuracy_PG.shape[1], accuracy_PG.reshape(-1)
  samples = types.SimpleNamespace(
    length_N=np.full(accuracy_N.size, 3),
    rows=types.SimpleNamespace(finished_B=np.ones(accuracy_N.size, bool)),
  )
  rewards = Rewards(reward_N=accuracy_N, parts=dict(accuracy=accuracy_N))
  return held_out.metrics(samples, rewards, group_size)


def test_a_problem_counts_by_its_judged_samples():
  line = metrics([[1, NAN, 0], [1, 1, NAN], [NAN, NAN, NAN], [0, 0, 0]])
  assert line['eval/problems'] == 3
  assert line['eval/pass1'] == pytest.approx((0.5 + 1 + 0) / 3)
  interval = statistics.mean_interval([0.5, 1, 0])
  assert (line['eval/low'], line['eval/high']) == interval
  assert line['eval/unscored'] == pytest.approx(5 / 12)


def test_partial_credit_is_not_right():
  line = metrics([[1, 0.5], [0.99, NAN], [1, 1]])
  assert line['eval/pass1'] == pytest.approx((0.5 + 0 + 1) / 3)


def test_a_sample_lost_in_every_problem_leaves_an_evaluation():
  line = metrics([[1, NAN], [NAN, 0], [NAN, 1]])
  assert line['eval/problems'] == 3
  assert line['eval/low'] <= line['eval/pass1'] <= line['eval/high']


def test_lost_samples_do_not_put_the_mean_outside_of_its_interval():
  """The mean over samples is 0.57; that over complete problems is 0."""
  lost = [[1, 1, 1, NAN]] * 6 + [[0, 0, 0, 0]] * 4
  line = metrics(lost)
  assert line['eval/low'] <= line['eval/pass1'] <= line['eval/high']
  assert line['eval/pass1'] == pytest.approx(0.6)


def test_nothing_judged_is_no_number_and_no_score():
  line = metrics([[NAN, NAN], [NAN, NAN]])
  assert line['eval/problems'] == 0 and line['eval/unscored'] == 1
  for name in ('pass1', 'low', 'high', 'dead_groups'):
    assert math.isnan(line[f'eval/{name}'])
  config = held_out.EvalConfig()
  assert 'no held-out problem was judged' in held_out.base_line(
    line, config, 4, 1.0
  )


def test_a_fully_judged_evaluation_is_over_all_problems():
  line = metrics([[1, 0], [1, 1], [0, 0]])
  assert line['eval/pass1'] == pytest.approx(0.5)
  assert line['eval/problems'] == 3
  assert line['eval/dead_groups'] == pytest.approx(2 / 3)


def test_unjudged_groups_do_not_count_as_equal():
  line = metrics([[1, 0], [NAN, NAN], [0, 0]])
  assert line['eval/dead_groups'] == pytest.approx(1 / 2)


def test_the_base_line_says_which_samples_its_groups_have():
  line = metrics([[1, 0], [0, 0]])
  config = held_out.EvalConfig(samples=2, temperature=0.6)
  text = held_out.base_line(line, config, 16, 1.0)
  assert 'pass@1 0.250 [' in text and 'of 2 problems' in text
  assert '50.0% have equal rewards in 2 samples at temperature 0.6' in text
  assert '(a training group: 16 at 1)' in text
  same = held_out.base_line(line, config, 2, 0.6)
  assert 'training' not in same


def test_the_accuracy_reward_may_be_that_of_a_domain_alone():
  tables = dict(format=1.0), dict(accuracy=1.0)
  held_out.check(held_out.EvalConfig(), tables)
  held_out.check_records(tables)
  with pytest.raises(errors.UserError, match='pass@1 needs the accuracy'):
    held_out.check(held_out.EvalConfig(), tables[:1])
  with pytest.raises(errors.UserError, match='no held-out record has the acc'):
    held_out.check_records(tables[:1])
