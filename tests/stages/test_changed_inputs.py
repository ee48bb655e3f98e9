"""A file that changes under its path between two commands of a run is refused
in every stage, before anything is mixed."""

import json
import shutil

import pytest
import toy

import r1jax
from r1jax import errors
from r1jax.data import tasks
from r1jax.training import metrics
from r1jax.training.config_changes import Change

LINES = tasks.load_records('toy:running_sum?count=24&digits=3', 3)
PAIR = 'prompt answer response chosen rejected'.split()


@pytest.fixture
def model(base, tmp_path):
  """A copy of the base model, for a test to change."""
  shutil.copytree(base / 'model', tmp_path / 'model')
  return tmp_path / 'model'


def damage(path):
  """Changes the last byte of a file: a bit of a weight."""
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)


def data(path, records=LINES):
  rows = [record | dict(rejected='no') for record in records]
  for row in rows:
    row['chosen'] = row['response']
  lines = [json.dumps({key: row[key] for key in PAIR}) for row in rows]
  path.write_text('\n'.join(lines))
  return path


def run(name, workdir, *changes, **accepted):
  toy.stage(name).run(toy.settings(name, *changes), workdir, Change(**accepted))


def refused(key):
  return pytest.raises(errors.UserError, match=rf'config\.{key} .*has changed')


def interrupted(name, workdir, monkeypatch, *changes):
  """Runs a stage until it has sampled a chunk, or saved a step."""
  module = toy.stage(name)
  with monkeypatch.context() as patch:
    if name in ('evaluate', 'reject'):
      function = dict(evaluate='sample_lines', reject='sample_chunk')[name]
      original, calls = getattr(module, function), []

      def broken(*arguments):
        if calls:
          raise KeyboardInterrupt
        calls.append(1)
        return original(*arguments)

      patch.setattr(module, function, broken)
    else:
      write = metrics.Writer.write

      def write_until_3(writer, line):
        if line['step'] == 3:
          raise KeyboardInterrupt
        write(writer, line)

      patch.setattr(metrics.Writer, 'write', write_until_3)
    with pytest.raises(KeyboardInterrupt):
      run(name, workdir, *changes)


@pytest.mark.parametrize('name', ['evaluate', 'reject'])
def test_no_chunks_of_two_models_are_mixed(name, model, tmp_path, monkeypatch):
  changes, workdir = (f'init={model}', 'samples=2'), tmp_path / 'run'
  if name == 'evaluate':
    changes += ('majority_k=0', 'pass_k=()')
  interrupted(name, workdir, monkeypatch, *changes)
  before = toy.files(workdir)
  damage(model / 'model.safetensors')
  for accepted in (False, True):
    with refused('init'):
      run(name, workdir, *changes, accept_inputs=accepted)
  assert toy.files(workdir) == before
  damage(model / 'model.safetensors')  # the old one again
  run(name, workdir, *changes)
  damage(model / 'tokenizer.json')
  with pytest.raises(errors.UserError):  # It may be unreadable, too.
    run(name, workdir, *changes)
  damage(model / 'tokenizer.json')
  config = model / 'generation_config.json'
  config.write_text(config.read_text() + '\n')
  with refused('init'):  # though it is finished
    run(name, workdir, *changes)


def test_rejected_samples_stay_with_their_records(model, tmp_path, monkeypatch):
  file, workdir = data(tmp_path / 'data.jsonl'), tmp_path / 'run'
  changes = f'init={model}', f'data={file}', 'samples=2'
  interrupted('reject', workdir, monkeypatch, *changes)
  data(file, LINES[::-1])
  for accepted in (False, True):
    with refused('data'):
      run('reject', workdir, *changes, accept_inputs=accepted)


@pytest.mark.slow
def test_an_rl_run_continues_with_other_inputs_on_purpose_alone(
  model, base, tmp_path, monkeypatch
):
  file, workdir = data(tmp_path / 'held_out.jsonl'), tmp_path / 'run'
  changes = (
    f'init={model}',
    f'teacher={tmp_path}/teacher',
    'grpo.kl_coef=1.0',
    'grpo.kl_estimator=k3_unbiased',
    f'eval.data={file}',
    'save_every=1',
  )
  shutil.copytree(base / 'model', tmp_path / 'teacher')
  interrupted('rl', workdir, monkeypatch, *changes)
  damage(tmp_path / 'teacher' / 'model.safetensors')
  with refused('teacher'):
    run('rl', workdir, *changes)
  damage(model / 'model.safetensors')
  with refused('init'):
    r1jax.load(f'{workdir}@last')
  damage(model / 'model.safetensors')
  assert r1jax.load(f'{workdir}@last').vocab_size == 261
  data(file, LINES[1:])
  damage(tmp_path / 'teacher' / 'model.safetensors')
  with refused('eval.data'):
    run('rl', workdir, *changes)
  run('rl', workdir, *changes, accept_inputs=True)
  content = json.loads((workdir / 'config.json').read_text())
  keys = [entry['key'] for entry in content['changes']]
  assert keys == ['content of config.eval.data', 'records']
  run('rl', workdir, *changes)  # is finished


@pytest.mark.slow
@pytest.mark.parametrize('name', ['sft', 'reward_model'])
def test_training_on_a_file_that_has_changed_is_refused(
  name, model, tmp_path, monkeypatch
):
  file, workdir = data(tmp_path / 'data.jsonl'), tmp_path / 'run'
  changes = f'init={model}', f'data={file}', 'steps=4', 'save_every=1'
  changes += 'batch_size=8', 'micro_batch_size=4', 'max_len=48'
  if name == 'reward_model':
    changes += ('part=response', 'held_out=4')
  interrupted(name, workdir, monkeypatch, *changes)
  file.write_text(file.read_text() + '\n')
  with refused('data'):
    run(name, workdir, *changes)
  run(name, workdir, *changes, accept_inputs=True)
