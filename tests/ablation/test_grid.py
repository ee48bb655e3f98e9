"""The grid of a sweep: its text form, its runs, and the names of their folders."""

import dataclasses
import json

import numpy as np
import pytest
import toy

from r1jax import config, errors
from r1jax.ablation import grid

CLS = toy.stage('rl').Config


def plan(values, seeds=1, *changes):
  settings = toy.settings('rl', *changes)
  return grid.plan(CLS, settings, grid.check(values), seeds)


def test_a_grid_is_a_list_of_literals_for_each_key():
  texts = ['grpo.kl_coef=[0, 1e-3]', 'init=["a","b"]', 'rewards=[{"x": 1}]']
  assert grid.parse(texts) == {
    'grpo.kl_coef': [0, 0.001],
    'init': ['a', 'b'],
    'rewards': [{'x': 1}],
  }


@pytest.mark.parametrize(
  'text', ['steps', 'steps=', 'steps=3', 'steps=[3', 'steps=[a]', 'steps=(3,)']
)
def test_other_forms_are_refused_with_an_example(text):
  with pytest.raises(errors.UserError, match=r'write KEY=\[value,value\]'):
    grid.parse([text])


def test_a_key_given_twice_is_refused():
  with pytest.raises(errors.UserError, match='has the key steps twice'):
    grid.parse(['steps=[3]', 'steps=[5]'])


def test_every_seed_has_a_run_of_each_combination():
  values = {'config.grpo.kl_coef': [0, 0.1], 'steps': [8, 12]}
  runs = plan(values, 2, 'seed=5')
  assert [run.name for run in runs[:4]] == [
    'grpo.kl_coef=0.0,steps=8/seed-5',
    'grpo.kl_coef=0.0,steps=12/seed-5',
    'grpo.kl_coef=0.1,steps=8/seed-5',
    'grpo.kl_coef=0.1,steps=12/seed-5',
  ]
  assert [run.config['seed'] for run in runs] == [5] * 4 + [6] * 4
  assert runs[3].config['grpo']['kl_coef'] == 0.1
  assert runs[3].config['steps'] == 12


def test_a_run_differs_from_the_config_in_its_setting_alone():
  (run,) = plan({'optim.lr': [0.5]})
  base = dataclasses.asdict(toy.built('rl'))
  assert list(config.changes(base, run.config)) == ['optim.lr']


def test_a_sweep_without_a_grid_has_one_run_a_seed():
  assert [run.name for run in plan({}, 2)] == ['seed-0', 'seed-1']


def test_names_do_not_depend_on_the_order_of_keys():
  one = plan({'steps': [8], 'optim.lr': [0.5]})
  other = plan({'optim.lr': [0.5], 'steps': [8]})
  assert one[0].name == other[0].name == 'optim.lr=0.5,steps=8/seed-0'


def test_names_have_no_path_in_them_and_stay_different():
  inits = ['/models/a/model', '/models_a/model', 'x' * 300 + 'y', 'x' * 300]
  names = [run.name for run in plan({'init': inits})]
  assert len(set(names)) == 4
  for name in names:
    folder, _, seed = name.partition('/')
    assert seed == 'seed-0' and len(folder) < 60
  assert names[0].startswith('init=models_a_model-')


def test_the_name_of_many_values_is_short_enough_for_a_file_system():
  setting = {f'key{n}': f'value{n}' for n in range(40)}
  name = grid.setting_name(setting)
  assert len(name.encode()) <= 255
  assert name != grid.setting_name(setting | dict(key39='other'))


def test_sections_and_tuples_can_be_values():
  values = {
    'rewards': [dict(accuracy=1.0), dict(accuracy=1.0, format=0.5)],
    'max_new_tokens_schedule': [((2, 12),)],
  }
  one, other = plan(values)
  assert one.config['rewards'] == dict(accuracy=1.0)
  assert other.config['rewards'] == dict(accuracy=1.0, format=0.5)
  assert one.config['max_new_tokens_schedule'] == ((2, 12),)
  assert one.name != other.name


def test_a_reward_can_be_named_by_its_file():
  (run,) = plan({'rewards': [{'accuracy': 1, 'mine.py:short': 0.1}]})
  assert run.config['rewards'] == {'accuracy': 1.0, 'mine.py:short': 0.1}


def test_numbers_of_numpy_are_values():
  runs = plan({'optim.lr': np.array([0.25, 0.5])})
  assert [type(run.config['optim']['lr']) for run in runs] == [float, float]
  assert json.dumps(runs[1].config['optim'])


@pytest.mark.parametrize(
  'values, sentence',
  [
    ({'grpo.kl_coeff': [0]}, 'did you mean config.grpo.kl_coef'),
    ({'grpp.kl_coef': [0]}, 'did you mean config.grpo.kl_coef'),
    ({'grpo.beta': [0]}, 'it is now config.grpo.kl_coef'),
    ({'optim.lr': []}, 'no value for optim.lr'),
    ({'optim.lr': 0.1}, 'give a list'),
    ({'init': 'abc'}, 'give a list'),
    ({'optim.lr': ['fast']}, "config.optim.lr must be float, not 'fast'"),
    ({'steps': [0]}, 'config.steps is 0; it must be at least 1'),
    ({'seed': [0, 1]}, 'seed cannot be a key of the grid'),
    ({'optim.lr': [1, 1.0]}, 'optim.lr=1.0 twice'),
  ],
)
def test_wrong_grids_are_refused(values, sentence):
  with pytest.raises(errors.UserError) as error:
    plan(values)
  assert sentence in str(error.value)


def test_value_of_finds_keys_that_have_dots():
  tree = {'rewards': {'a.py:f': 1.0, 'b': 2.0}, 'steps': 3}
  assert grid.value_of(tree, 'rewards.a.py:f') == 1.0
  assert grid.value_of(tree, 'rewards.b') == 2.0
  assert grid.value_of(tree, 'rewards') == tree['rewards']
  assert grid.value_of(tree, 'rewards.c') == grid.ABSENT
