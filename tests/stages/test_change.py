"""A run continues with other steps, rates, code or devices than it began with.
More steps give the run that would have had as many from the start."""

import json
import pathlib

import jax
import numpy as np
import pytest
import toy
import toy_metrics

from r1jax import cli, errors, files
from r1jax.rl import rl_config
from r1jax.training import metrics
from r1jax.training.config_changes import Change, Changed

RL = (
  'eval.every=3',
  'save_every=5',
  'micro_batch_size=8',
  'grpo.minibatches=2',
  'grpo.kl_coef=0.1',
  'grpo.ref_every=4',
)
SFT = (
  'steps=0',
  'epochs=1',
  'save_every=7',
  'optim.schedule=constant',
  "scratch.extra_tokens=('ab',)",  # 262 ids, which two devices can share
)


def run(name, workdir, *changes, accept_code=False, **values):
  """Runs a stage with --change; values by dotted key, with _ for dots."""
  values = {key.replace('__', '.'): value for key, value in values.items()}
  settings = toy.settings(name, *changes)
  toy.stage(name).run(settings, workdir, Change(values, accept_code))
  return lines(workdir)


def lines(workdir, name='metrics.jsonl'):
  found = files.read_jsonl(workdir / name)
  return [toy_metrics.without_timings(line) for line in found]


def model(workdir, name='model'):
  return (workdir / name / 'model.safetensors').read_bytes()


def assert_near(found, wanted):
  """Equal metrics up to the order of sums."""
  assert [x['step'] for x in found] == [x['step'] for x in wanted]
  for ours, theirs in zip(found, wanted):
    np.testing.assert_allclose(ours['loss'], theirs['loss'], rtol=1e-4)


@pytest.fixture(scope='module')
def sft(tmp_path_factory):
  """(a run of 20 steps, one of 40 from the start)."""
  folder = tmp_path_factory.mktemp('sft')
  run('sft', folder / 'short', *SFT)
  run('sft', folder / 'long', *SFT, 'epochs=2')
  return folder / 'short', folder / 'long'


def copied(workdir, to):
  """A copy of a run's directory."""
  for path, content in toy.files(workdir).items():
    target = to / path.relative_to(workdir)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
  return to


def test_an_extended_rl_run_equals_a_long_one(base, tmp_path):
  short, long = tmp_path / 'short', tmp_path / 'long'
  init = f'init={base}/model'
  run('rl', long, init, 'steps=8', *RL)
  run('rl', short, init, 'steps=4', *RL)
  shorter = model(short)
  assert run('rl', short, init, 'steps=4', *RL, steps=8) == lines(long)
  assert lines(short, 'samples.jsonl') == lines(long, 'samples.jsonl')
  assert model(short) == model(long)
  assert model(short, 'model-step-4') == shorter


def test_an_extended_sft_run_equals_a_long_one(sft, tmp_path):
  short, long = sft
  workdir = copied(short, tmp_path)
  assert run('sft', workdir, *SFT, epochs=2) == lines(long)
  assert model(workdir) == model(long)
  assert model(workdir, 'model-step-20') == model(short)


def test_a_smaller_micro_batch_changes_the_order_of_sums_alone(sft, tmp_path):
  short, long = sft
  workdir = copied(short, tmp_path)
  found = run('sft', workdir, *SFT, 'micro_batch_size=8', epochs=2)
  assert_near(found, lines(long))
  assert model(workdir) != model(long)


LAYOUTS = {
  'mesh': (4, 'parallel.strategy=mesh', 'parallel.tensor_parallel=2'),
  'two devices': (2, 'parallel.strategy=mesh'),
  'one device': (1,),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_run_continues_on_other_devices(layout, sft, tmp_path, monkeypatch):
  short, long = sft
  workdir = copied(short, tmp_path)
  count, *changes = LAYOUTS[layout]
  devices = jax.devices()[:count]
  monkeypatch.setattr(jax, 'devices', lambda: devices)
  assert_near(run('sft', workdir, *SFT, *changes, epochs=2), lines(long))


def test_the_learning_rate_changes_from_the_newest_checkpoint_on(sft, tmp_path):
  short, _ = sft
  workdir = copied(short, tmp_path)
  found = run('sft', workdir, *SFT, epochs=2, optim__lr=0.25)
  assert found[:20] == lines(short)
  assert [line['lr'] for line in found[20:]] == [0.25] * 20


def test_steps_from_a_checkpoint_on_fill_rollouts(base):
  config = toy.built('rl', 'steps=8', 'grpo.minibatches=4')
  rl_config.check_remaining(config, 4)
  with pytest.raises(errors.UserError, match='from step 6 to config.steps=8'):
    rl_config.check_remaining(config, 6)


def test_a_reference_cannot_appear_or_disappear():
  config = rl_config.Config()
  rl_config.check_changes(config, [Changed('grpo.kl_coef', 0.1, 0.2)])
  for pair in ((0.0, 0.1), (0.1, 0.0)):
    with pytest.raises(errors.UserError, match='holds a reference'):
      rl_config.check_changes(config, [Changed('grpo.kl_coef', *pair)])


def test_other_rewards_may_not_change_what_the_best_checkpoint_is_by():
  old, new = dict(accuracy=1.0), dict(format=1.0)
  config = toy.built('rl', 'rewards={"format":1.0}')
  with pytest.raises(errors.UserError, match='eval/pass1.*weight 0'):
    rl_config.check_changes(config, [Changed('rewards', old, new)])
  config = toy.built('rl', 'rewards={"format":1.0}', 'eval.best=eval/reward')
  rl_config.check_changes(config, [Changed('rewards', old, new)])


REWARD = """
def parity(records, texts):
  return [float(len(text) % 2) for text in texts]
"""


def test_a_run_that_the_users_code_ended_goes_on_after_the_mend(
  base, tmp_path, monkeypatch
):
  file, workdir = tmp_path / 'mine.py', tmp_path / 'run'
  changes = (
    f'init={base}/model',
    f'rewards.{file}:parity=1.0',
    'save_every=1',
    'eval.every=0',
  )
  file.write_text(REWARD)
  run('rl', tmp_path / 'whole', *changes)
  flag = tmp_path / 'flag'
  file.write_text(
    REWARD
    + f"""
import pathlib
right = parity
def parity(records, texts):
  assert not pathlib.Path({str(flag)!r}).exists()
  return right(records, texts)
"""
  )
  write = metrics.Writer.write

  def write_and_break(writer, line):
    write(writer, line)
    if line['step'] == 2:
      flag.touch()

  with monkeypatch.context() as patch:
    patch.setattr(metrics.Writer, 'write', write_and_break)
    with pytest.raises(errors.UserError, match='AssertionError'):
      run('rl', workdir, *changes)
  file.write_text(REWARD)
  with pytest.raises(errors.UserError, match='mine.py has changed'):
    run('rl', workdir, *changes)
  found = run('rl', workdir, *changes, accept_code=True)
  assert found == lines(tmp_path / 'whole')
  (entry,) = json.loads((workdir / 'config.json').read_text())['changes']
  assert entry['step'] == 2 and entry['key'] == f'code of {file}'


def test_a_stage_of_chunks_changes_free_keys_alone(base, tmp_path):
  stage, keys = toy.stage('evaluate'), [f'init={base}/model', 'samples=1']
  keys += ['pass_k=()', 'majority_k=0']
  stage.run(toy.settings('evaluate', *keys), tmp_path)
  results = tmp_path / 'results.json'
  before = results.read_text()
  results.unlink()
  (tmp_path / 'chunks' / 'GSM8K-00002.jsonl').unlink()
  settings = toy.settings('evaluate', *keys, 'sample.decode_slots=2')
  with pytest.raises(errors.UserError, match='--change is not possible: all'):
    stage.run(settings, tmp_path, Change(dict(samples=2)))
  stage.run(settings, tmp_path)
  assert results.read_text() == before
  (entry,) = json.loads((tmp_path / 'config.json').read_text())['changes']
  assert entry == dict(
    step=2, key='sample.decode_slots', old=4, new=2, is_free=True
  )


def test_the_command_line_and_the_report_name_the_changes(
  sft, tmp_path, capsys
):
  short, _ = sft
  workdir = copied(short, tmp_path)
  command = ['sft', '--config', str(toy.HERE / 'toy_sft.py')]
  command += [f'--config.{key}' for key in SFT]
  command += ['--workdir', str(workdir)]
  changes = ['--change', 'config.steps=22', '--change', 'optim.lr=0.125']
  assert cli.main([*command, '--change', 'steps']) == 2
  assert 'cannot read --change steps' in capsys.readouterr().err
  assert cli.main([*command, *changes]) == 0
  assert 'changed from step 20 on: steps: 0 -> 22' in capsys.readouterr().out
  assert lines(workdir)[-1]['lr'] == 0.125
  assert cli.main(['report', '--workdir', str(workdir)]) == 0
  page = pathlib.Path(workdir / 'report.html').read_text()
  assert 'Changes' in page and '0.125' in page
