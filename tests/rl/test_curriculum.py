"""Curricula: easy prompts first, and prompts by the success of the run."""

import numpy as np
import pytest

from r1jax import errors
from r1jax.data import mixture
from r1jax.rewards.pending import Rewards
from r1jax.rl import curriculum
from r1jax.rl.curriculum import CurriculumConfig

RECORDS = [
  dict(id=f'r/{n}', prompt=str(n), level=n * 7 % 20) for n in range(20)
]
BY_LEVEL = CurriculumConfig(difficulty='level', steps=10, start=0.2)
BY_SUCCESS = CurriculumConfig(by_success=True, min_weight=0.1)


def chosen(config, step, start=0, count=4, success=(), seed=3):
  prompts = curriculum.prompts(config, RECORDS, {})
  index = curriculum.indices(
    config, prompts, {}, seed, step, start, count, dict(success)
  )
  return index.tolist()


def test_without_a_curriculum_the_stream_is_that_of_the_seed():
  groups = mixture.groups(RECORDS, {})
  stream = mixture.indices(groups, {}, 3, 8, 4).tolist()
  assert chosen(CurriculumConfig(), 2, 8) == stream
  assert chosen(BY_LEVEL, 10, 8) == stream  # after its last step


def test_the_hardest_prompt_of_a_step_rises_with_the_step():
  for step, easiest in [(0, 4), (5, 12), (9, 18)]:
    found = {
      RECORDS[n]['level']
      for start in range(0, 400, 4)
      for n in chosen(BY_LEVEL, step, start)
    }
    assert found == set(range(easiest))


def test_a_rollout_takes_a_prompt_once_where_there_are_enough():
  for config in (BY_LEVEL, BY_SUCCESS):
    for start in range(0, 80, 4):
      assert len(set(chosen(config, 0, start))) == 4
  assert sorted(chosen(BY_LEVEL, 0, count=8)) == sorted(
    2 * [n for n in range(20) if RECORDS[n]['level'] < 4]
  )


@pytest.mark.parametrize(
  'value, number',
  [(3, 3), (0.5, 0.5), ('Level 4', 4), ('2.5', 2.5), ('Hard', 3), ('easy', 1)],
)
def test_a_difficulty_is_a_number_or_a_word(value, number):
  record = dict(id='a', level=value)
  assert curriculum.difficulty_of(BY_LEVEL, record) == number


@pytest.mark.parametrize(
  'value', [None, 'tricky', True, [1], float('nan'), 10**400]
)
def test_another_difficulty_is_refused_with_the_keys_of_the_record(value):
  with pytest.raises(errors.UserError, match='record a .*the keys id, level'):
    curriculum.difficulty_of(BY_LEVEL, dict(id='a', level=value))


def test_prompts_are_drawn_in_proportion_to_their_weights():
  success = {f'r/{n}': (n < 10) * 0.5 for n in range(20)}
  count = np.zeros(20)
  for start in range(0, 8000, 4):
    np.add.at(count, chosen(BY_SUCCESS, 1, start, success=success), 1)
  share = count / count.sum()  # weights 1 and 0.1
  np.testing.assert_allclose(share[:10], 1 / 11, rtol=0.15)
  np.testing.assert_allclose(share[10:], 0.1 / 11, rtol=0.5)


def test_a_choice_depends_on_seed_position_and_results_alone():
  success = {'r/3': 1.0, 'r/4': 0.0}
  first = chosen(BY_SUCCESS, 1, 8, success=success)
  assert first == chosen(BY_SUCCESS, 7, 8, success=success)
  others = [
    chosen(BY_SUCCESS, 1, 12, success=success),
    chosen(BY_SUCCESS, 1, 8, success=success, seed=4),
    chosen(BY_SUCCESS, 1, 8, success={f'r/{n}': 0.0 for n in range(0, 20, 2)}),
  ]
  assert first not in others


def test_a_mixture_keeps_its_shares_under_a_curriculum():
  records = [x | dict(mixture='ab'[n % 2]) for n, x in enumerate(RECORDS)]
  weights = dict(a=0.75, b=0.25)
  prompts = curriculum.prompts(BY_LEVEL, records, weights)
  index = np.concatenate(
    [
      curriculum.indices(BY_LEVEL, prompts, weights, 0, 0, start, 8, {})
      for start in range(0, 1000, 8)
    ]
  )
  assert (index % 2 == 0).sum() == 750
  assert {records[n]['level'] for n in index} == {0, 2, 1, 3}


def test_results_are_means_over_the_samples_of_a_record():
  records = [dict(id=name) for name in 'aabbcc']
  part_N = np.float32([1, 0, np.nan, 1.5, np.nan, np.nan])
  rewards = Rewards(part_N, dict(accuracy=part_N))
  found = curriculum.results(BY_SUCCESS, records, rewards)
  assert found == dict(a=0.5, b=1.0)
  assert curriculum.results(BY_LEVEL, records, rewards) == {}
  old = dict(a=1.0, d=0.25)
  assert curriculum.updated(old, found) == dict(a=0.75, b=1.0, d=0.25)
  assert old == dict(a=1.0, d=0.25)


@pytest.mark.parametrize(
  'config, message',
  [
    (CurriculumConfig(difficulty='level'), 'difficulty and .*steps belong'),
    (CurriculumConfig(steps=3), 'difficulty and .*steps belong'),
    (
      CurriculumConfig(by_success=True, reward='x'),
      "'x', which is none of the",
    ),
  ],
)
def test_a_curriculum_that_cannot_work_is_refused(config, message):
  with pytest.raises(errors.UserError, match=message):
    curriculum.check(config, ['accuracy', 'format'])
