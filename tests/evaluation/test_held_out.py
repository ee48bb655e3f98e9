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


TABLES = dict(format=1.0), dict(accuracy=1.0)


def test_the_accuracy_reward_may_be_that_of_a_domain_alone():
  config = held_out.EvalConfig()
  held_out.check(config, TABLES)
  held_out.check_records(config, TABLES, TABLES)
  with pytest.raises(errors.UserError, match='no held-out record has the rew'):
    held_out.check_records(config, TABLES, TABLES[:1])
  by_reward = held_out.EvalConfig(best='eval/reward')
  held_out.check_records(by_reward, TABLES, TABLES[:1])


def reward_metrics(reward_PG, **parts):
  reward_N = np.array(reward_PG, np.float32).reshape(-1)
  samples = types.SimpleNamespace(
    length_N=np.arange(reward_N.size),
    rows=types.SimpleNamespace(finished_B=np.ones(reward_N.size, bool)),
  )
  parts = {name: np.float32(x_N) for name, x_N in parts.items()}
  return held_out.metrics(samples, Rewards(reward_N, parts), 2)


def test_without_accuracy_the_problems_are_those_with_a_reward():
  line = reward_metrics(
    [[4, NAN], [2, 0], [NAN, NAN]], brief=[4, NAN, 2, 0, NAN, NAN]
  )
  assert line['eval/problems'] == 2 and 'eval/pass1' not in line
  assert line['eval/reward'] == line['eval/reward/brief'] == 2
  assert line['eval/unscored'] == 0.5
  assert line['eval/reward_low'] == 1 and line['eval/reward_high'] == 4
  text = held_out.base_line(line, held_out.EvalConfig(samples=2), 2, 1.0)
  assert text.startswith('base: reward 2.000 [1.000, 4.000] of 2 problems, ')
  unjudged = reward_metrics([[NAN, NAN]], brief=[NAN, NAN])
  text = held_out.base_line(unjudged, held_out.EvalConfig(samples=2), 2, 1.0)
  assert 'no held-out problem was judged' in text


@pytest.mark.parametrize(
  'best, score',
  [
    ('', 2.0),
    ('eval/reward', 2.0),
    ('eval/reward/brief', 0.25),
    ('-eval/reward/brief', -0.25),
    ('-eval/length', -1.5),
  ],
)
def test_the_best_checkpoint_is_by_the_metric_that_the_user_names(best, score):
  line = reward_metrics([[4, 1], [3, 0]], brief=[0.5, 0, 0.5, 0])
  config = held_out.EvalConfig(best=best)
  held_out.check(config, [{'own.py:brief': 0.5, 'format': 1.0}])
  assert held_out.score(config, line) == score


def test_pass1_is_the_metric_where_there_is_one():
  line = metrics([[1, 1], [0, 1]])
  config = held_out.EvalConfig()
  assert held_out.best_metric(config, TABLES) == 'eval/pass1'
  assert held_out.best_metric(config, TABLES[:1]) == 'eval/reward'
  assert held_out.score(config, line) == line['eval/pass1'] == 0.75
  assert math.isnan(held_out.score(config, metrics([[NAN, NAN]])))


@pytest.mark.parametrize(
  'best, message',
  [
    ('eval/pass1', 'needs the accuracy reward'),
    ('eval/reward/breif', "did you mean 'eval/reward/brief'"),
    ('reward', "did you mean 'eval/reward'"),
    ('-pass1', 'eval/reward, eval/reward/brief, '),
  ],
)
def test_a_metric_that_the_run_lacks_is_refused(best, message):
  config = held_out.EvalConfig(best=best)
  with pytest.raises(errors.UserError, match=message):
    held_out.check(config, [{'own.py:brief': 1.0}])
  held_out.check(held_out.EvalConfig(best=best, every=0), [{}])
