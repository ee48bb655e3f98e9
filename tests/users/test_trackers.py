"""The real wandb, trackio and TensorBoard, offline: a run that is killed and
continued has each step once, in one run."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.users

# An environment with the libraries, see `make test-users`.
PYTHON = os.environ.get('R1JAX_USERS_PYTHON', sys.executable)

TRACKERS = (
  'tensorboard',
  'wandb?mode=offline&project=zero',
  'trackio?project=zero',
)
KILLED, LAST = 4, 6  # the steps of both processes; the second repeats 2 and 3
WRITER = """
import sys, time
sys.path.insert(0, {here!r})
import test_trackers as toy
from r1jax.training import metrics

first, end, is_killed, workdir, *trackers = sys.argv[1:]
settings = toy.Config(steps=7, trackers=tuple(trackers))
writer = metrics.Writer(workdir, settings)
writer.rewind(int(first) - 1)
for step in range(int(first), int(end)):
  writer.write(toy.step(step))
  writer.samples([toy.sample(step) | dict(length=3, finished=True)])
if is_killed == 'True':
  for worker in writer._workers:
    while not worker.calls.empty():
      time.sleep(0.1)
  time.sleep(2)
  os._exit(9)
writer.close()
"""


def write(folder, first, end, is_killed=False, trackers=TRACKERS, **variables):
  """Writes steps as a run does, in a process; its stderr."""
  here = str(Path(__file__).parents[1] / 'training')
  code = f'import os{WRITER.format(here=here)}'
  arguments = [str(first), str(end), str(is_killed), str(folder / 'run')]
  environment = dict(os.environ, TRACKIO_DIR=str(folder / 'trackio'))
  done = subprocess.run(
    [PYTHON, '-c', code, *arguments, *trackers],
    capture_output=True,
    text=True,
    env=environment | variables,
  )
  assert done.returncode == (9 if is_killed else 0), done.stderr
  return done.stderr


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """The folder of a run that was killed and continued."""
  folder = tmp_path_factory.mktemp('trackers')
  assert write(folder, 0, KILLED, is_killed=True) == ''
  assert write(folder, 2, LAST) == ''
  return folder


def found_by(name, folder):
  """What read_trackers.py finds."""
  script = Path(__file__).parent / 'read_trackers.py'
  done = subprocess.run(
    [PYTHON, str(script), name, str(folder / 'run')],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


def test_wandb_has_each_step_once_in_one_run(folder):
  paths = (folder / 'run/wandb').glob('offline-run-*/*.wandb')
  names = [path.name for path in paths]
  assert len(names) == 2 and names[0] == names[1]
  found = found_by('wandb', folder)
  rows = [row for row in found['rows'] if 'train/reward' in row]
  assert [row['step'] for row in rows] == list(range(LAST))
  for row in rows:
    assert row['train/reward'] == pytest.approx(row['step'] / 3)
    assert row['eval/pass1'] == 0.5 and 'system/host_memory_used' in row
  keys = {key for row in found['rows'] for key in row}
  assert any(key.startswith('samples') for key in keys)
  assert set(found['projects']) == {'zero'} and 'steps' in found['keys']


def test_trackio_has_each_step_once_in_one_run(folder):
  database = sqlite3.connect(folder / 'trackio/zero.db')
  rows = database.execute('select run_name, step, metrics from metrics')
  names, steps, samples = set(), [], 0
  for name, step, text in rows:
    names.add(name)
    found = json.loads(text)
    samples += 'samples' in found
    if 'train/reward' in found:
      steps.append(step)
      assert found['train/reward'] == pytest.approx(step / 3)
  assert len(names) == 1 and sorted(steps) == list(range(LAST))
  assert samples >= 1


def test_tensorboard_shows_each_step_once_with_hyperparameters(folder):
  found = found_by('tensorboard', folder)
  assert {tag.partition('/')[0] for tag in found['scalars']} == {
    *('train', 'eval', 'time', 'system')
  }
  steps = [step for step, _ in found['scalars']['train/reward']]
  assert steps == list(range(LAST))
  assert 'samples/text_summary' in found['texts']
  assert '_hparams_/session_start_info' in found['hparams']


def test_wandb_without_a_key_is_one_line(tmp_path):
  error = write(
    tmp_path,
    *(0, 2),
    trackers=('wandb',),
    WANDB_API_KEY='',
    HOME=str(tmp_path),
    NETRC=str(tmp_path / 'none'),
  )
  assert error.count('\n') == 1
  assert (
    'tracker wandb is dropped (TrackerError: UsageError: No API key' in error
  )


def test_a_server_of_wandb_that_does_not_answer_delays_no_run(tmp_path):
  error = write(
    tmp_path,
    *(0, 2),
    trackers=('wandb',),
    WANDB_API_KEY='0' * 40,
    WANDB_BASE_URL='http://127.0.0.1:9',
    WANDB_INIT_TIMEOUT='600',
  )
  assert error.count('\n') == 1 and 'the tracker wandb is dropped' in error


def test_a_folder_of_trackio_that_cannot_be_written_stops_no_run(tmp_path):
  (tmp_path / 'trackio').write_text('a file')
  error = write(tmp_path, 0, 2, trackers=('trackio',))
  assert error.count('\n') <= 1  # trackio itself warns, in the tracker's log
  assert (tmp_path / 'run/trackers/trackio.log').stat().st_size
