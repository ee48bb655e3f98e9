"""A work directory belongs to one config. A command may change free keys, other
keys by --change, and code that it accepts; everything else is refused."""

import dataclasses
import datetime
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from r1jax import config as configs
from r1jax import errors, user_code
from r1jax.checkpoints import tokenizer_settings
from r1jax.data import gym_tasks, run_date
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
  init: str = configs.option('', 'a model', fixed='model', reads='model')
  judges: dict[str, str] = configs.option({}, 'models', reads='model')
  data: str = configs.option('', 'records', reads='records')
  compare_with: list[str] = configs.option([], 'results', reads='results')


LR = Config(optim=Optim(lr=0.25))


def start(
  path,
  values=(),
  step=0,
  change=(),
  accept_code=False,
  accept_inputs=False,
  records=('a',),
  scored=(),
  fixed='',
):
  """Starts or continues a run with values by dotted key, from the checkpoint
  `step` on. The config in force, or None if the run is finished."""
  settings = configs.with_values(configs.defaults(Config), dict(values))
  directory = run_directory.open_directory(
    path,
    Config,
    settings,
    Change(dict(change), accept_code, accept_inputs),
    fixed,
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


def test_a_start_removes_what_a_killed_run_has_left(tmp_path):
  left = [
    tmp_path / 'config.json.0123abcd.tmp',
    tmp_path / 'chunks' / '00001.jsonl.0123abcd.tmp',
    tmp_path / 'trackers' / 'wandb.json.0123abcd.tmp',
  ]
  other = tmp_path / 'data' / 'mine.json.0123abcd.tmp'
  for path in (*left, other):
    path.parent.mkdir(exist_ok=True)
    path.write_text('{')
    os.utime(path, (0, 0))
  with run_directory.occupied(tmp_path):
    assert not any(path.exists() for path in left)
  assert other.exists()


def test_the_same_command_changes_nothing(tmp_path):
  values = dict(steps=7, lengths=((3, 9),))
  start(tmp_path, values)
  written = content(tmp_path)
  start(tmp_path, values)
  assert content(tmp_path) == written
  names = sorted(x.name for x in tmp_path.iterdir())
  assert names == ['config.json', 'starts.jsonl']


def test_a_directory_that_cannot_be_read_or_written_is_refused(tmp_path):
  (tmp_path / 'config.json').write_text('{"config": ')
  with raises('config.json is not a config'):
    start(tmp_path)
  (tmp_path / 'file').write_text('')
  with raises('cannot write to the work directory'):
    start(tmp_path / 'file' / 'run')


DAMAGED = dict(
  inputs=[5, [], {'init': 'abc'}, {'init': {}}, {'init': {'files': {}}}],
  config=[[], 5, None, {'optim': 5}, {'optim': []}, {'steps': 'x'}],
  changes=[5, ['x'], [{}], [{'step': 'x'}], [{'step': 1}]],
  code=['x', []],
  records=[5, {}],
  defaults_kept=[[], 'x'],
  date=['soon', 5],
)


@pytest.mark.parametrize('key', DAMAGED)
def test_a_damaged_config_is_refused(key, tmp_path):
  start(tmp_path)
  whole = content(tmp_path)
  for value in DAMAGED[key]:
    text = json.dumps(whole | {key: value})
    (tmp_path / 'config.json').write_text(text)
    with raises('config.json is'):
      start(tmp_path)
    assert (tmp_path / 'config.json').read_text() == text


@pytest.mark.parametrize('text', ['5', '[]', 'null', '"x"', '', '{}', '\0'])
def test_a_config_that_is_no_object_is_refused(text, tmp_path):
  (tmp_path / 'config.json').write_text(text)
  with raises('config.json is not a config'):
    start(tmp_path)


def test_results_of_an_unknown_config_are_refused(tmp_path):
  start(tmp_path / 'a')
  save(tmp_path / 'a', 3)
  finish(tmp_path / 'b', 5)
  (tmp_path / 'c' / 'model').mkdir(parents=True)
  (tmp_path / 'd' / 'chunks').mkdir(parents=True)
  (tmp_path / 'd' / 'chunks' / '0.jsonl').write_text('')
  (tmp_path / 'a' / 'config.json').unlink()
  for name, what in dict(a='checkpoints', b='model', c='model').items():
    with raises('has no config.json, but', what, 'another --workdir'):
      start(tmp_path / name)
    assert not (tmp_path / name / 'config.json').exists()
  with raises('no config.json', 'chunks'):
    start(tmp_path / 'd', fixed=run_directory.ONE_CONFIG)


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


def test_a_new_key_has_its_default_in_an_older_run_until_it_is_changed(
  tmp_path, capsys
):
  start(tmp_path)
  save(tmp_path, 3)
  old = content(tmp_path)
  del old['config']['batch_size'], old['config']['optim']['schedule']
  del old['config']['keep'], old['config']['seed']
  (tmp_path / 'config.json').write_text(json.dumps(old))
  values = {'batch_size': 4, 'optim.schedule': 'cosine', 'keep': 5, 'seed': 7}
  capsys.readouterr()
  for is_first in (True, False):
    config = start(tmp_path, values, step=3)
    assert config == Config(keep=5)
    printed = capsys.readouterr().out
    assert 'config.batch_size is 8, the default, since the run is' in printed
    assert ('keys that are newer than this run' in printed) == is_first
  assert start(tmp_path, step=3) == Config()  # The command has the default too.
  with raises('batch_size: 8 -> 3; .* --change batch_size=3'):
    start(tmp_path, values | dict(batch_size=3), step=3)
  change = dict(batch_size=4)
  assert start(tmp_path, values, step=3, change=change).batch_size == 4
  assert start(tmp_path, values, step=3).batch_size == 4


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


def test_other_records_can_be_accepted(tmp_path):
  start(tmp_path)
  save(tmp_path, 3)
  with raises('records have changed', r'the new records \(--accept-inputs\)'):
    start(tmp_path, records=('b',), step=3)
  start(tmp_path, records=('b',), step=3, accept_inputs=True)
  (entry,) = content(tmp_path)['changes']
  assert entry['key'] == 'records' and entry['step'] == 3
  start(tmp_path, records=('b',), step=3)
  with raises('records have changed', 'since one config$'):
    start(tmp_path, step=3, accept_inputs=True, fixed='one config')


def model(folder, weights):
  folder.mkdir(exist_ok=True)
  (folder / 'model.safetensors').write_text(weights)
  (folder / 'config.json').write_text('{}')
  return str(folder)


def input_values(tmp_path, text):
  """Values of all keys that name files, whose content begins with a text."""
  data, evaluation = tmp_path / 'data.jsonl', tmp_path / 'evaluation'
  data.write_text(f'{text} data')
  evaluation.mkdir(exist_ok=True)
  (evaluation / 'results.json').write_text(f'{text} results')
  return {
    'init': model(tmp_path / 'model', f'{text} weights'),
    'judges': {'safety': model(tmp_path / 'judge', f'{text} judge')},
    'data': str(data),
    'compare_with': [str(evaluation)],
  }


INPUTS = {
  'init': 'model/model.safetensors',
  'judges.safety': 'judge/model.safetensors',
  'data': 'data.jsonl',
  'compare_with.0': 'evaluation/results.json',
}


@pytest.mark.parametrize('key', INPUTS)
def test_an_input_with_other_content_is_refused_or_accepted(key, tmp_path):
  values, run = input_values(tmp_path, 'old'), tmp_path / 'run'
  start(run, values)
  file = tmp_path / INPUTS[key]
  file.write_text('new')
  start(run, values)  # Nothing depended on the old content.
  assert content(run)['changes'] == []
  save(run, 3)
  start(run, values, step=3)
  file.write_text('NEW')  # as long as before
  source = file if key == 'data' else file.parent
  sentence = (
    rf'config.{key} \({source}\) has changed since the run in {run} began: '
    f'{file.name} has other content: put the old files back'
  )
  with raises(sentence, '--workdir, or .* new files .--accept-inputs'):
    start(run, values, step=3, accept_code=True)
  start(run, values, step=3, accept_inputs=True)
  (entry,) = content(run)['changes']
  assert entry['step'] == 3 and entry['key'] == f'content of config.{key}'
  start(run, values, step=3)
  assert content(run)['changes'] == [entry]
  file.unlink()
  with raises('is missing'):
    start(run, values, step=3)


@pytest.mark.parametrize('key', INPUTS)
def test_a_stage_of_chunks_accepts_other_results_alone(key, tmp_path):
  values, run = input_values(tmp_path, 'old'), tmp_path / 'run'
  start(run, values, fixed='one config')
  (run / 'chunks').mkdir()
  (run / 'chunks' / '0.jsonl').write_text('')
  (tmp_path / INPUTS[key]).write_text('new')
  if key == 'compare_with.0':  # read after the last chunk
    start(run, values, accept_inputs=True, fixed='one config')
    return
  with raises(f'config.{key} .* --workdir, since one config$'):
    start(run, values, accept_inputs=True, fixed='one config')


def test_a_result_of_other_inputs_is_not_that_of_the_command(tmp_path):
  values, run = input_values(tmp_path, 'old'), tmp_path / 'run'
  start(run, values)
  finish(run, 100)
  assert start(run, values) is None
  model(tmp_path / 'model', 'new weights')
  with raises('config.init .* has changed since the run'):
    start(run, values)


def test_another_model_by_a_change_needs_no_other_permission(tmp_path):
  values, run = input_values(tmp_path, 'old'), tmp_path / 'run'
  start(run, values)
  save(run, 3)
  change = {'judges.safety': model(tmp_path / 'judge2', 'better')}
  start(run, values, step=3, change=change)
  source = content(run)['inputs']['judges.safety']['source']
  assert source == change['judges.safety']


def test_inputs_of_a_run_of_an_older_version_are_recorded(tmp_path, capsys):
  values, run = input_values(tmp_path, 'old'), tmp_path / 'run'
  start(run, values)
  save(run, 3)
  old = content(run)
  new = old.pop('inputs')
  (run / 'config.json').write_text(json.dumps(old))
  capsys.readouterr()
  start(run, values, step=3)
  assert 'are part of it from now on' in capsys.readouterr().out
  assert content(run)['inputs'] == new and new.keys() == INPUTS.keys()
  start(run, values, step=3)
  assert capsys.readouterr().out == ''


def test_a_finished_run_of_an_older_version_stays_as_it_is(tmp_path, capsys):
  values, run = input_values(tmp_path, 'old'), tmp_path / 'run'
  start(run, values)
  finish(run, 100)
  old = content(run)
  del old['inputs']
  (run / 'config.json').write_text(json.dumps(old))
  capsys.readouterr()
  assert start(run, values) is None
  assert 'from now on' not in capsys.readouterr().out
  assert content(run) == old


TODAY = "{{ strftime_now('%d %b %Y %H:%M') }}"


def test_chat_templates_see_the_date_of_the_runs_beginning(
  tmp_path, monkeypatch
):
  settings = tokenizer_settings.Settings(chat_template=TODAY)
  start(tmp_path / 'without')
  assert 'date' not in content(tmp_path / 'without')
  open_directory = run_directory.open_directory

  def opened(*arguments):
    directory = open_directory(*arguments)
    settings.render_chat([])  # as a stage does with its prompts
    return directory

  monkeypatch.setattr(run_directory, 'open_directory', opened)
  start(tmp_path)
  written = content(tmp_path)
  began = datetime.datetime.fromisoformat(written['date'])
  assert settings.render_chat([]) == began.strftime('%d %b %Y %H:%M')
  written['date'] = '2021-03-04T23:59:59'
  (tmp_path / 'config.json').write_text(json.dumps(written))
  start(tmp_path)  # on another day
  assert settings.render_chat([]) == '04 Mar 2021 23:59'
  assert content(tmp_path)['date'] == '2021-03-04T23:59:59'
  with ThreadPoolExecutor(1) as executor:
    text = executor.submit(settings.render_chat, []).result()
    with run_date.at('1999-01-02'):
      inner = settings.render_chat([])
      other = executor.submit(settings.render_chat, []).result()
  assert (text, inner, other) == (
    '04 Mar 2021 23:59',
    '02 Jan 1999 00:00',
    '04 Mar 2021 23:59',
  )
  with run_directory.occupied(tmp_path):
    start(tmp_path)
  assert settings.render_chat([]) >= '0' and run_date.now().year > 2021


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
