"""Configs in Python: nested and dotted keys, code as values, errors, and what a
notebook completes."""

import pathlib
import subprocess
import sys

import pytest

import r1jax
from r1jax.api import configure
from r1jax.rejection import reject_config
from r1jax.stages import rl, sft

EXPERIMENTS = pathlib.Path(r1jax.__file__).parents[1] / 'experiments'


def refuses(sentence):
  return pytest.raises(r1jax.UserError, match=sentence)


def test_a_dict_sets_some_keys_of_a_section_and_the_others_keep_defaults():
  config = r1jax.configure(
    'rl', steps=7, grpo=dict(kl_coef=0, group_size=4), **{'optim.lr': 1}
  )
  default = rl.Config()
  assert (config.steps, config.grpo.group_size) == (7, 4)
  assert config.grpo.minibatches == default.grpo.minibatches
  assert config.grpo.kl_coef == 0.0 and type(config.grpo.kl_coef) is float
  assert type(config.optim.lr) is float


def test_sections_within_sections_take_dicts_too():
  config = r1jax.configure('reject', judge=dict(prompt=dict(max_len=7)))
  assert config.judge.prompt.max_len == 7
  config = r1jax.configure('reject', **{'judge.prompt': dict(max_len=7)})
  assert config.judge.prompt.max_len == 7
  assert config.judge.max_attempts == reject_config.Config().judge.max_attempts


def test_a_dict_replaces_the_value_of_a_key_that_holds_a_dict():
  def short(records, texts):
    return [-len(text) for text in texts]

  config = r1jax.configure('rl', rewards={'accuracy': 1.0, short: 0.5})
  accuracy, own = config.rewards
  assert accuracy == 'accuracy' and own.startswith('python:short@')
  assert config.rewards[own] == 0.5


def test_records_and_functions_are_stored_by_name():
  config = r1jax.configure('sft', data=[dict(prompt='1', response='2')])
  assert config.data.startswith('python:records_')


def test_a_config_file_is_changed_in_the_same_way():
  config = r1jax.configure(
    EXPERIMENTS / 'demo_zero.py', steps=3, eval=dict(every=1)
  )
  assert (config.steps, config.eval.every, config.eval.held_out) == (3, 1, 256)
  assert config.init == 'runs/demo/base/model'


def test_keys_can_be_set_later_and_are_completed():
  config = r1jax.configure('rl')
  config.grpo.kl_coef = 0.25
  assert config.grpo.kl_coef == 0.25
  assert {'grpo', 'prompts', 'optim'} <= set(dir(config))
  assert {'kl_coef', 'group_size'} <= set(dir(config.grpo))
  with pytest.raises(AttributeError, match='Did you mean "kl_coef"'):
    config.grpo.kl_coeff = 0.5


@pytest.mark.parametrize(
  'keys, sentence',
  [
    (dict(stepz=3), 'unknown key config.stepz: did you mean config.steps?'),
    (dict(steps='many'), "config.steps must be int, not 'many'"),
    (
      dict(grpo=dict(kl_coeff=0.1)),
      'unknown key config.grpo.kl_coeff: did you mean config.grpo.kl_coef?',
    ),
    (
      {'grpo.group_size': 0},
      'config.grpo.group_size is 0; it must be at least',
    ),
    (dict(grpo=3), 'config.grpo must be GrpoConfig, not 3'),
    (
      dict(optim=dict(schedule='x')),
      "config.optim.schedule must be one of 'co",
    ),
    (dict(rewards=['accuracy']), 'config.rewards must be dict'),
  ],
)
def test_wrong_keys_and_values_are_refused_at_once(keys, sentence):
  with refuses(sentence):
    r1jax.configure('rl', **keys)


@pytest.mark.parametrize(
  'stage, sentence',
  [
    ('rll', 'there is no stage rll: did you mean rl?'),
    ('preflight', 'there is no stage preflight'),
    ('none.py', 'there is no config file none.py'),
  ],
)
def test_other_names_than_stages_and_files_are_refused(stage, sentence):
  with refuses(sentence):
    r1jax.configure(stage)


@pytest.mark.parametrize('name', configure.STAGES)
def test_the_keys_of_a_config_tell_its_stage(name):
  stage = configure.stage_of(r1jax.configure(name))
  assert stage.__name__ == f'r1jax.stages.{name}'


def test_a_config_without_a_key_is_of_the_stage_with_most_of_its_keys():
  keys = set(r1jax.configure('sft')) - {'epochs'} | {'old_key'}
  assert configure.stage_of(keys) is sft


def test_importing_r1jax_imports_neither_jax_nor_numpy():
  code = 'import r1jax, sys; print([x for x in ("jax", "numpy") if x in sys.modules])'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True)
  assert done.stdout == b'[]\n', done.stderr


def test_a_notebook_shows_the_sentence_of_an_error_alone():
  with refuses('there is no stage') as raised:
    r1jax.configure('rll')
  (line,) = raised.value._render_traceback_()
  assert line.startswith('UserError: there is no stage rll')


def test_every_name_of_the_api_is_completed_and_can_be_imported():
  assert dir(r1jax) == sorted(r1jax.__all__)
  for name in set(r1jax.__all__) - {'__version__'}:
    assert callable(getattr(r1jax, name))
  assert not hasattr(r1jax, 'no_such_name')
