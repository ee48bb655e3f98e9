"""Trackers show the numbers of metrics.jsonl in groups, and neither stop nor
block a run."""

import dataclasses
import errno
import shutil
import sys
import threading
import time

import pytest

from r1jax import config, errors, files
from r1jax.training import metrics
from r1jax.training.trackers import (
  registry,
  system_metrics,
  tensorboard,
  worker,
)
from r1jax.training.trackers.tracked_run import grouped


@dataclasses.dataclass(frozen=True)
class Config:
  steps: int = config.option(3, 'how many')
  rewards: dict[str, float] = config.option({}, 'weights')
  trackers: tuple[str, ...] = config.option(registry.DEFAULT, registry.HELP)


# A tracker that appends what it is told to a file, and can be told to fail.
OWN = """
import os, pathlib, sys, time

class Own:
  def __init__(self, run, fails='', prints=''):
    self.file = open(pathlib.Path(run.workdir) / 'own.txt', 'a')
    self.fails = fails
    print(prints)
    self.put('open', run.name, run.first_step, run.config['steps'], run.id)
    self.fail('open')
  def fail(self, where):
    what, _, when = self.fails.partition('@')
    if when == where:
      if what == 'exit': os._exit(3)
      if what == 'sleep': time.sleep(600)
      if what == 'full': raise OSError(28, 'No space left on device')
      if what == 'quit': sys.exit(1)
      if what == 'ask': input()
      if what == 'long': raise ValueError('x' * 5000)
  def put(self, *words):
    print(*words, file=self.file, flush=True)
  def write(self, step, metrics):
    kept = {k: x for k, x in metrics.items() if 'system' not in k}
    self.put('write', step, *(f'{k}={x:g}' for k, x in kept.items()))
    self.fail('write')
  def samples(self, step, samples):
    self.put('samples', step, len(samples))
  def close(self):
    self.fail('close')
    self.put('close')
"""


@pytest.fixture
def own(tmp_path):
  """own(settings) -> the name of a tracker of the user's."""
  path = tmp_path / 'own.py'
  path.write_text(OWN)
  return lambda query='': f'{path}:Own{query}'


def step(number):
  return {'step': number, 'reward': number / 3, 'eval/pass1': 0.5, 'seconds': 2}


def sample(number):
  return dict(step=number, id='q1', prompt='é', response='a\nb', reward=1.0)


def run(workdir, *trackers, steps=3, restored=-1, steps_of_config=3):
  """Writes lines as a run does; returns the seconds of its end."""
  settings = Config(steps=steps_of_config, trackers=trackers)
  writer = metrics.Writer(workdir, settings)
  writer.rewind(restored)
  for number in range(restored + 1, steps):
    writer.write(step(number))
    writer.samples([sample(number)] * 2)
  began = time.monotonic()
  writer.close()
  assert len(files.read_jsonl(workdir / 'metrics.jsonl')) == steps
  return time.monotonic() - began


def events(workdir):
  """[(step, tag, value)] of TensorBoard's files."""
  found = []
  for path in (workdir / 'tensorboard').iterdir():
    data = path.read_bytes()
    while data:  # length, checksum, event, checksum
      size = int.from_bytes(data[:8], 'little')
      event = tensorboard.event_pb2.Event.FromString(data[12 : 12 + size])
      found += [(event.step, value.tag, value) for value in event.summary.value]
      data = data[16 + size :]
  return found


def test_metrics_are_grouped():
  line = {
    'step': 3,
    'reward': 1.0,
    'reward/accuracy': 0.5,
    'eval/pass1': 0.25,
    'tokens_per_s': 7.0,
    'time/sample': 2.0,
    'loss': None,
    'kl': float('nan'),
  }
  assert grouped(line) == {
    'train/reward': 1.0,
    'train/reward/accuracy': 0.5,
    'eval/pass1': 0.25,
    'time/tokens_per_s': 7.0,
    'time/sample': 2.0,
  }


def test_memory_is_that_of_this_machine():
  found = system_metrics.read()
  assert all(name.startswith('system/') for name in found)
  if sys.platform == 'linux':
    assert 0 < found['system/host_memory_used'] < 1
    assert 0.01 < found['system/process_memory_gib'] < 1000


def test_tensorboard_has_curves_samples_and_hyperparameters(tmp_path):
  run(tmp_path, 'tensorboard', steps_of_config=7)
  found = events(tmp_path)
  tags = {(n, tag) for n, tag, _ in found if tag.startswith(('train', 'eval'))}
  names = 'train/reward', 'eval/pass1'
  assert tags == {(n, name) for n in range(3) for name in names}
  texts = [x.tensor.string_val[0] for _, tag, x in found if 'samples' in tag]
  assert len(texts) == 1 and '    é\n'.encode() in texts[0]
  (start,) = [
    x.metadata.plugin_data.content
    for _, tag, x in found
    if tag == '_hparams_/session_start_info'
  ]
  assert b'steps' in start and b'rewards' not in start


def test_the_table_of_hyperparameters_takes_values_of_every_kind(tmp_path):
  settings = Config(rewards=dict(a=1.0), trackers=('tensorboard',))
  writer = metrics.Writer(tmp_path, settings)
  writer.write(step(0))
  writer.close()
  assert (0, 'train/reward') in {(n, tag) for n, tag, _ in events(tmp_path)}


def test_tensorboard_is_optional(tmp_path, monkeypatch):
  monkeypatch.setattr(tensorboard, 'event_file_writer', None)
  run(tmp_path, 'tensorboard')
  assert not (tmp_path / 'tensorboard').exists()


def test_a_folder_of_tensorboard_that_fails_does_not_stop_a_run(
  tmp_path, capsys
):
  (tmp_path / 'tensorboard').write_text('a file')
  run(tmp_path, 'tensorboard', steps=50)
  error = capsys.readouterr().err
  assert error.count('the tracker tensorboard is dropped (') == 1


@pytest.mark.parametrize('when', ['first', 'later'])
def test_a_full_disk_under_tensorboard_does_not_stop_a_run(
  when, tmp_path, capsys, monkeypatch
):
  write = tensorboard.TensorBoard.write

  def full(self, step, numbers):
    if when == 'first' or step > 3:
      raise OSError(errno.ENOSPC, 'No space left on device')
    write(self, step, numbers)

  monkeypatch.setattr(tensorboard.TensorBoard, 'write', full)
  run(tmp_path, 'tensorboard', steps=50)
  assert capsys.readouterr().err.count('No space left on device') == 1


def test_a_folder_of_tensorboard_that_is_removed_is_reported(
  tmp_path, capsys, monkeypatch
):
  write = tensorboard.TensorBoard._write

  def remove(self, step, **content):
    write(self, step, **content)
    shutil.rmtree(tmp_path / 'tensorboard', ignore_errors=True)

  monkeypatch.setattr(tensorboard.TensorBoard, '_write', remove)
  run(tmp_path, 'tensorboard')
  error = capsys.readouterr().err
  assert error.count('the folder was removed); metrics.jsonl goes on') == 1


def test_a_tracker_that_blocks_is_dropped(tmp_path, capsys, monkeypatch):
  blocked = threading.Event()
  monkeypatch.setattr(
    tensorboard.TensorBoard, 'write', lambda *_: blocked.wait()
  )
  monkeypatch.setattr(worker, 'MAX_WAITING', 20)
  seconds = run(tmp_path, 'tensorboard', steps=50)
  blocked.set()
  assert seconds < worker.CLOSE_SECONDS / 2  # It is not waited for.
  assert capsys.readouterr().err.count('20 lines wait to be written') == 1


def test_an_own_tracker_gets_the_lines_in_a_process_of_its_own(tmp_path, own):
  run(tmp_path, own(), steps=2)
  opened, *lines = (tmp_path / 'own.txt').read_text().splitlines()
  name = f'{tmp_path.parent.name}/{tmp_path.name}'
  assert opened.startswith(f'open {name} 0 3 ')
  numbers = 'eval/pass1=0.5 time/seconds=2'
  assert lines == [
    f'write 0 train/reward=0 {numbers}',
    'samples 0 2',
    f'write 1 train/reward=0.333333 {numbers}',
    'close',
  ]


def test_the_example_of_a_tracker_runs(tmp_path):
  run(tmp_path, 'experiments/your_own/tracker.py:TextFile?name=a.txt', steps=2)
  first, *lines = (tmp_path / 'a.txt').read_text().splitlines()
  assert first.startswith(
    f'{tmp_path.parent.name}/{tmp_path.name} from step 0 '
  )
  assert lines == ['0 0.0000', "0 'a\\nb'", '1 0.3333']


def test_a_resumed_run_is_the_same_and_sends_no_step_twice(tmp_path, own):
  run(tmp_path, own(), steps=3)
  run(tmp_path, own(), steps=5, restored=0)
  lines = (tmp_path / 'own.txt').read_text().splitlines()
  opened = [line.split() for line in lines if line.startswith('open')]
  assert [words[2] for words in opened] == ['0', '1']  # first steps
  assert opened[0][-1] == opened[1][-1]  # ids
  steps = [line.split()[1] for line in lines if line.startswith('write')]
  assert steps == list('01234')


def test_an_evaluation_that_is_made_up_for_is_sent(tmp_path, own):
  settings = Config(trackers=(own(),))
  for line in ({'step': 4, 'loss': 1.0}, {'step': 4, 'eval/pass1': 0.5}):
    writer = metrics.Writer(tmp_path, settings)
    writer.write(line)
    writer.close()
  text = (tmp_path / 'own.txt').read_text()
  assert 'write 4 train/loss=1\n' in text and 'write 4 eval/pass1=0.5\n' in text


@pytest.mark.parametrize(
  'fails, reason',
  [
    ('exit@open', 'its process ended with code 3, see '),
    ('full@write', 'OSError: [Errno 28] No space left on device; see '),
    ('quit@write', 'SystemExit: 1; see '),
    ('ask@write', 'EOFError: EOF when reading a line; see '),
    ('long@open', 'ValueError: xxx'),
    ('exit@close', 'its process ended with code 3, see '),
  ],
)
def test_a_tracker_that_fails_is_dropped_with_one_line(
  tmp_path, own, capsys, fails, reason
):
  run(tmp_path, own(f'?fails={fails}&prints=hello'))
  out, err = capsys.readouterr()
  assert out == '' and err.count('\n') == 1 and len(err) < 700
  assert f'r1jax: the tracker Own is dropped (TrackerError: {reason}' in err
  assert 'hello' in (tmp_path / 'trackers/Own.log').read_text()


@pytest.mark.parametrize('where', ['open', 'close'])
def test_a_tracker_that_hangs_delays_the_end_by_a_bound(
  tmp_path, own, capsys, monkeypatch, where
):
  monkeypatch.setattr(worker, 'CLOSE_SECONDS', 2.0)
  seconds = run(tmp_path, own(f'?fails=sleep@{where}'), 'tensorboard')
  assert seconds < 60
  assert 'its last lines were not written 2 s after' in capsys.readouterr().err


def test_a_tracker_that_is_not_installed_is_left_out(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(registry.importlib.util, 'find_spec', lambda name: None)
  run(tmp_path, 'wandb')
  error = capsys.readouterr().err
  assert (
    error.count("the tracker wandb is not installed (pip install 'r1j") == 1
  )


@pytest.mark.parametrize(
  'names, sentence',
  [
    (['wandd'], "config.trackers is 'wandd'; it can be tensorboard, wandb"),
    (['none.py:Own'], 'config.trackers: there is no file none.py'),
    (
      ['wandb?projekt=a'],
      'wandb has no setting projekt; it has project, entity',
    ),
    (['wandb?project'], "'project' is not one key=value"),
    (['wandb', 'wandb?project=a'], 'config.trackers has wandb twice'),
  ],
)
def test_wrong_names_are_refused(names, sentence):
  with pytest.raises(errors.UserError) as error:
    registry.check(names)
  assert sentence in str(error.value)


def test_trackers_are_set_as_a_list_of_names(own):
  settings = config.defaults(Config)
  argument = '--config.trackers=tensorboard,wandb?project=zero&mode=offline'
  names = config.build(Config, config.override(settings, [argument])).trackers
  assert names == ('tensorboard', 'wandb?project=zero&mode=offline')
  registry.check([*names, own()])
  settings = config.override(settings, ['--config.trackers=()'])
  assert config.build(Config, settings).trackers == ()
