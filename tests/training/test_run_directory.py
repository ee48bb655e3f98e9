"""A work directory belongs to one config. A command may change free keys, other
keys by --change, and code that it accepts; everything else is refused."""

import dataclasses
import json

import pytest

from r1jax import config as configs
from r1jax import errors, user_code
from r1jax.data import gym_tasks
from r1jax.training import run_directory
from r1jax.training.config_changes import Change


@dataclasses.dataclass(frozen=True)
class Optim:
  lr: float = configs.option(0.5, 'learning rate')
  schedule: str = configs.option('constant', 'of lr')


@dataclasses.dataclass(frozen=True)
class Config:
  steps: int = configs.option(100, 'updates')
  batch_size: int = configs.option(8, 'rows')
  keep: int = configs.option(2, 'checkpoints', is_free=True)
  seed: int = configs.option(0, 'of all', fixed='seed')
  lengths: tuple[tuple[int, int], ...] = configs.option((), 'a schedule')
  rewards: dict[str, float] = configs.option(
    dict(accuracy=1.0), 'weights', is_code=True
  )
  optim: Optim = Optim()


LR = Config(optim=Optim(lr=0.25))


def start(
  path,
  values=(),
  step=0,
  change=(),
  accept_code=False,
  records=('a',),
  scored=(),
  fixed='',
):
  """Starts or continues a run with values by dotted key, from the checkpoint
  `step` on. The config in force, or None if the run is finished."""
  settings = configs.with_values(configs.defaults(Config), dict(values))
  directory = run_directory.open_directory(
    path, Config, settings, Change(dict(change), accept_code), fixed
  )
  steps = directory.config.steps
  claimed = run_directory.claim(
    directory, 'model', list(records), steps, scored
  )
  if claimed is None:
    return None
  run_directory.record_changes(claimed, step)
  return claimed.config


def save(path, step):
  (path / 'checkpoints' / str(step)).mkdir(parents=True)


def finish(path, step):
  save(path, step)
  (path / 'model').mkdir()


def content(path):
  return json.loads((path / 'config.json').read_text())


def raises(*patterns):
  """Expects a UserError of one line that matches all the patterns."""
  pattern = ''.join(f'(?=.*{x})' for x in patterns)
  return pytest.raises(errors.UserError, match=f'(?s)^{pattern}[^\n]*$')


def test_a_new_directory_gets_the_config(tmp_path):
  path = tmp_path / 'runs' / 'one'
  config = Config(steps=7, lengths=((3, 9),))
  assert start(path, dict(steps=7, lengths=((3, 9),))) == config
  written = content(path)
  assert written['changed'] == dict(steps=[100, 7], lengths=[[], [[3, 9]]])
  assert written['config']['optim'] == dict(lr=0.5, schedule='constant')
  assert written['changes'] == [] and written['code'] == {}


def test_the_same_command_changes_nothing(tmp_path):
  values = dict(steps=7, lengths=((3, 9),))
  start(tmp_path, values)
  written = content(tmp_path)
  start(tmp_path, values)
  assert content(tmp_path) == written
  assert [x.name for x in tmp_path.iterdir()] == ['config.json']


def test_a_directory_that_cannot_be_read_or_written_is_refused(tmp_path):
  (tmp_path / 'config.json').write_text('{"config": ')
  with raises('config.json is not a config'):
    start(tmp_path)
  (tmp_path / 'file').write_text('')
  with raises('cannot write to the work directory'):
    start(tmp_path / 'file' / 'run')


def test_another_config_is_refused_with_the_change_that_makes_it(tmp_path):
  start(tmp_path)
  written = content(tmp_path)
  with raises(
    'another config: rewards: .* optim.lr: 0.5 -> 0.25;',
    'use another --workdir or set these keys back',
    r'--change .rewards=\{.*format.*\}. --change optim.lr=0.25',
  ):
    start(tmp_path, {'optim.lr': 0.25, 'rewards': dict(format=1.0)})
  assert content(tmp_path) == written


def test_a_change_is_recorded_with_its_step_and_stays_in_force(
  tmp_path, capsys
):
  start(tmp_path)
  assert start(tmp_path, step=40, change={'config.optim.lr': 0.25}) == LR
  entry = dict(step=40, key='optim.lr', old=0.5, new=0.25)
  assert content(tmp_path)['changes'] == [entry]
  assert content(tmp_path)['config']['optim']['lr'] == 0.25
  capsys.readouterr()
  assert start(tmp_path, step=60) == LR
  assert 'config.optim.lr is 0.25, as an earlier' in capsys.readouterr().out
  assert start(tmp_path, step=60, change={'optim.lr': 0.25}) == LR
  assert start(tmp_path, {'optim.lr': 0.25}, step=60) == LR
  assert content(tmp_path)['changes'] == [entry]
  with raises('optim.lr: 0.25 -> 0.125'):
    start(tmp_path, {'optim.lr': 0.125}, step=60)


def test_a_key_can_change_again_and_back(tmp_path):
  start(tmp_path)
  start(tmp_path, step=40, change={'optim.lr': 0.25})
  start(tmp_path, step=60, change={'optim.lr': 0.125})
  assert start(tmp_path, step=70).optim.lr == 0.125
  with raises('optim.lr: 0.125 -> 0.25'):
    start(tmp_path, {'optim.lr': 0.25}, step=70)
  assert start(tmp_path, step=80, change={'optim.lr': 0.5}) == Config()
  assert start(tmp_path, step=90) == Config()
  steps = [entry['step'] for entry in content(tmp_path)['changes']]
  assert steps == [40, 60, 80]


def test_free_keys_differ_without_a_change(tmp_path):
  start(tmp_path)
  assert start(tmp_path, dict(keep=5), step=40) == Config(keep=5)
  assert start(tmp_path, step=60) == Config()
  assert [
    (x['step'], x['old'], x['new']) for x in content(tmp_path)['changes']
  ] == [
    (40, 2, 5),
    (60, 5, 2),
  ]


def test_a_free_key_that_was_changed_on_purpose_stays_changed(tmp_path):
  start(tmp_path)
  assert start(tmp_path, step=40, change=dict(keep=5)) == Config(keep=5)
  assert start(tmp_path, step=60) == Config(keep=5)
  assert start(tmp_path, dict(keep=3), step=60) == Config(keep=3)
  finish(tmp_path, 100)
  with raises('finished after 100 steps', 'keep has no effect'):
    start(tmp_path, dict(keep=3), change=dict(keep=4))


def test_fixed_keys_are_refused_with_the_reason(tmp_path):
  start(tmp_path)
  for values, change in ((dict(seed=3), {}), ({}, dict(seed=3))):
    with raises('seed: 0 -> 3 .it cannot change: random numbers and the order'):
      start(tmp_path, values, change=change)
  assert content(tmp_path)['changes'] == []


def test_one_key_of_a_dict_can_change(tmp_path):
  start(tmp_path)
  start(tmp_path, step=3, change={'rewards.format': 0.5})
  config = start(tmp_path, step=4, change={'rewards.accuracy': 2.0})
  assert config.rewards == dict(accuracy=2.0, format=0.5)
  assert start(tmp_path, step=5) == config
  assert content(tmp_path)['changes'][1]['old'] == dict(
    accuracy=1.0, format=0.5
  )


def test_unknown_and_ill_typed_changes_are_refused(tmp_path):
  start(tmp_path)
  with raises('unknown key config.optim.rate', 'did you mean'):
    start(tmp_path, change={'optim.rate': 0.25})
  with raises('config.steps must be int'):
    start(tmp_path, change={'steps': 'many'})


def test_a_change_needs_a_run(tmp_path):
  with raises('there is no run in', 'set steps in the config'):
    start(tmp_path, change=dict(steps=200))
  assert not list(tmp_path.iterdir())


def test_a_stage_can_refuse_all_changes_but_those_of_free_keys(tmp_path):
  start(tmp_path, fixed='one config')
  with raises('--change is not possible: one config'):
    start(tmp_path, change=dict(steps=200), fixed='one config')
  with raises('steps: 100 -> 200 .it cannot change: one config'):
    start(tmp_path, dict(steps=200), fixed='one config')
  assert start(tmp_path, dict(keep=5), fixed='one config').keep == 5


def test_a_config_of_an_older_version_is_continued(tmp_path):
  start(tmp_path)
  old = content(tmp_path)
  del old['changes'], old['code'], old['records']
  del old['config']['keep'], old['config']['optim']['schedule']
  (tmp_path / 'config.json').write_text(json.dumps(old))
  save(tmp_path, 3)
  assert start(tmp_path, step=3, change={'optim.lr': 0.25}) == LR
  assert content(tmp_path)['config']['keep'] == 2
  assert content(tmp_path)['records']


def test_an_old_key_is_refused_with_its_new_name(tmp_path):
  start(tmp_path)
  old = content(tmp_path)
  old['config']['batch'] = old['config'].pop('batch_size')
  (tmp_path / 'config.json').write_text(json.dumps(old))
  with raises(
    'another stage or version', 'config.batch: it is now config.batch_'
  ):
    start(tmp_path)


def test_changes_of_steps_after_the_restored_one_are_valid_from_there(tmp_path):
  start(tmp_path)
  start(tmp_path, step=60, change={'optim.lr': 0.25})
  start(tmp_path, step=40)  # The checkpoint of step 60 was damaged.
  assert [x['step'] for x in content(tmp_path)['changes']] == [40]


def test_a_command_that_ends_before_the_restore_changes_nothing(tmp_path):
  start(tmp_path)
  written = content(tmp_path)
  directory = run_directory.open_directory(
    tmp_path, Config, configs.defaults(Config), Change({'optim.lr': 0.25})
  )
  assert run_directory.claim(directory, 'model', ['a'], 100)
  assert content(tmp_path) == written


def test_only_the_scorers_that_a_stage_calls_are_user_code(tmp_path):
  path = tmp_path / 'own_scorer_code.py'
  path.write_text('raise ValueError("imported")')
  records = [
    dict(id=str(n), scorer=x)
    for n, x in enumerate([f'{path}:f', 'human:alice', ['a'], 5])
  ]
  assert start(tmp_path / 'run', records=records)
  assert content(tmp_path / 'run')['code'] == {}
  path.write_text('def f(record, answer): return 1')
  directory = run_directory.open_directory(
    tmp_path / 'other', Config, configs.defaults(Config), Change({})
  )
  run_directory.claim(directory, 'model', records, 100, records[:1])
  assert content(tmp_path / 'other')['code'].keys() == {str(path)}


def test_more_steps_continue_a_finished_run_and_keep_its_model(tmp_path):
  start(tmp_path)
  finish(tmp_path, 100)
  assert start(tmp_path) is None
  assert start(tmp_path, dict(keep=5)) is None
  assert start(tmp_path, step=100, change=dict(steps=200)).steps == 200
  assert (tmp_path / 'model-step-100').exists()
  assert not (tmp_path / 'model').exists()
  finish(tmp_path, 200)
  assert start(tmp_path) is None
  assert start(tmp_path, change=dict(steps=200)) is None


def test_a_command_that_is_killed_after_it_kept_the_model_loses_nothing(
  tmp_path,
):
  start(tmp_path)
  finish(tmp_path, 100)
  (tmp_path / 'model').rename(tmp_path / 'model-step-100')
  assert start(tmp_path, step=100) == Config()  # which writes the model again
  (tmp_path / 'model').mkdir()
  assert start(tmp_path, step=100, change=dict(steps=200)).steps == 200
  assert not (tmp_path / 'model').exists()


def test_a_finished_run_refuses_changes_without_an_effect(tmp_path):
  start(tmp_path)
  finish(tmp_path, 100)
  with raises('finished after 100 steps', 'optim.lr has no effect: add steps'):
    start(tmp_path, change={'optim.lr': 0.25})
  config = start(tmp_path, step=100, change={'optim.lr': 0.25, 'steps': 101})
  assert config == dataclasses.replace(LR, steps=101)


def test_a_finished_run_without_checkpoints_cannot_be_extended(tmp_path):
  start(tmp_path)
  (tmp_path / 'model').mkdir()
  with raises('steps has no effect', f'config.init={tmp_path}/model'):
    start(tmp_path, change=dict(steps=200))


def test_steps_cannot_be_less_than_the_newest_checkpoint(tmp_path):
  start(tmp_path)
  save(tmp_path, 50)
  with raises('would be 49', 'a checkpoint of step 50'):
    start(tmp_path, change=dict(steps=49))
  assert start(tmp_path, step=50, change=dict(steps=51)).steps == 51


def test_other_records_are_refused_once_there_is_a_checkpoint(tmp_path):
  start(tmp_path, records=('a', 'b'))
  start(tmp_path, records=('a', 'c'))  # Nothing depended on the old ones.
  save(tmp_path, 3)
  start(tmp_path, records=('a', 'c'), step=3)
  with raises('records have changed', 'put the old records back'):
    start(tmp_path, records=('a', 'b'), step=3, accept_code=True)


CODE = 'def short(records, texts):\n  return [{} for _ in texts]\n'


def test_changed_code_is_refused_or_accepted(tmp_path):
  file, run = tmp_path / 'mine.py', tmp_path / 'run'
  values = dict(rewards={f'{file}:short': 1.0})
  file.write_text(CODE.format(1))
  start(run, values)
  file.write_text(CODE.format(2))
  start(run, values)  # Nothing depended on the old code.
  assert content(run)['changes'] == []
  save(run, 3)
  start(run, values, step=3)
  old = content(run)['code'][str(file)]
  file.write_text(CODE.format(3))
  with raises(f'the code of {file} has changed', '--accept-code'):
    start(run, values, step=3)
  start(run, values, step=3, accept_code=True)
  new = content(run)['code'][str(file)]
  entry = dict(step=3, key=f'code of {file}', old=old, new=new)
  assert content(run)['changes'] == [entry] and old != new
  start(run, values, step=3)
  assert content(run)['changes'] == [entry]


def test_code_that_comes_with_a_change_is_recorded(tmp_path):
  file, run = tmp_path / 'mine.py', tmp_path / 'run'
  file.write_text(CODE.format(1))
  start(run)
  save(run, 3)
  start(run, step=3, change={'rewards': {f'{file}:short': 1.0}})
  assert list(content(run)['code']) == [str(file)]


def test_a_function_given_in_python_is_recorded_without_its_digest(tmp_path):
  def given(limit):
    def short(records, texts):
      return [len(text) < limit for text in texts]

    return dict(rewards={short: 1.0})

  start(tmp_path, given(3))
  assert content(tmp_path)['config']['rewards'] == {'python:short': 1.0}
  save(tmp_path, 3)
  start(tmp_path, given(3), step=3)
  with raises('the code of python:short has changed'):
    start(tmp_path, given(4), step=3)
  config = start(tmp_path, given(4), step=3, accept_code=True)
  (name,) = config.rewards
  assert name.startswith('python:short@')


def test_a_change_of_one_entry_of_a_dict_admits_no_other(tmp_path):
  start(tmp_path)
  save(tmp_path, 7)
  values = {'rewards': {'accuracy': 9.0, 'format': 0.5}}
  with pytest.raises(errors.UserError, match=r'rewards.*accuracy.*9\.0'):
    start(tmp_path, values, step=7, change={'rewards.format': 0.5})
  assert start(tmp_path, step=7, change={'rewards.format': 0.5}).rewards == {
    'accuracy': 1.0,
    'format': 0.5,
  }


def test_two_objects_of_one_name_are_refused(tmp_path):
  def made(size):
    def length(records, texts):
      return [size for text in texts]

    return length

  rewards = {user_code.name_of(made(size)): 1.0 for size in (1, 2)}
  message = 'two different objects called length: give them different names'
  with pytest.raises(errors.UserError, match=message):
    start(tmp_path, {'rewards': rewards})


def test_only_keys_with_a_weight_are_names_of_code():
  @dataclasses.dataclass(frozen=True)
  class Sets:
    data: dict[str, str] = configs.option({}, 'by set', is_code=True)
    by_domain: dict[str, dict[str, float]] = configs.option(
      {}, 'weights', is_code=True
    )

  options = Sets(
    data={'gsm:easy': 'a.py:problems?count=3'},
    by_domain={'math:hard': {'b.py:short': 1.0}},
  )
  assert configs.code_names(options) == ['a.py:problems', 'b.py:short']


def test_a_scorer_of_the_records_is_code_of_the_run(tmp_path):
  file = tmp_path / 'own_scorer_of_a_run.py'
  file.write_text('def score(record, answer):\n  return 1.0\n')
  records = [dict(id='a', prompt='?', scorer=f'{file}:score')]
  start(tmp_path / 'run', records=records, scored=records)
  assert content(tmp_path / 'run')['code'].keys() == {str(file)}
  save(tmp_path / 'run', 4)
  file.write_text('def score(record, answer):\n  return 0.0\n')
  user_code.refresh([records[0]['scorer']])
  with raises('own_scorer_of_a_run.py has changed', '--accept-code'):
    start(tmp_path / 'run', records=records, scored=records, step=4)
  assert start(
    tmp_path / 'run', records=records, scored=records, step=4, accept_code=True
  )


def test_reasoning_gym_is_code_of_its_records_runs(tmp_path, monkeypatch):
  records = [dict(id='a', prompt='?', scorer='gym:gcd?count=1')]
  monkeypatch.setattr(gym_tasks, 'version', lambda: '0.1')
  start(tmp_path, records=records, scored=records)
  assert content(tmp_path)['code'] == {'reasoning-gym': '0.1'}
  save(tmp_path, 4)
  monkeypatch.setattr(gym_tasks, 'version', lambda: '0.2')
  with raises('the code of reasoning-gym has changed'):
    start(tmp_path, records=records, scored=records, step=4)
