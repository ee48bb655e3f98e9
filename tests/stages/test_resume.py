"""A run that is killed at any moment and resumed is bit for bit equal to an
uninterrupted one."""

import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
import toy
import toy_metrics
import toy_pause

from r1jax import errors, files
from r1jax.data import tasks
from r1jax.distributed import hosts
from r1jax.training import metrics

ROOT = pathlib.Path(__file__).parents[2]
# All that a checkpoint must hold: the position of dynamic sampling, a
# reference, the optimiser's moments, the schedule, skipped evaluations.
CHANGES = (
  'steps=12',
  'save_every=2',
  'eval.every=5',
  'micro_batch_size=8',
  'grpo.minibatches=2',
  'grpo.old_logprobs=trainer',
  'grpo.kl_coef=0.1',
  'grpo.ref_every=3',
  'max_new_tokens_schedule=((6,12),)',
  'grpo.dynamic_sampling_rounds=3',
  'optim.schedule=cosine',
  'optim.warmup=2',
)


@dataclasses.dataclass(frozen=True)
class Command:
  """python -m r1jax, on one device, in a process group of its own."""

  stage: str
  changes: tuple
  cache: pathlib.Path

  def start(self, workdir, *pause):
    """Starts it; with `pause`, a step and a folder, it pauses there."""
    arguments = [
      '-m',
      'r1jax',
      self.stage,
      '--config',
      toy.HERE / f'toy_{self.stage}.py',
      '--workdir',
      workdir,
      *(f'--config.{change}' for change in self.changes),
    ]
    if pause:
      arguments = toy_pause.command(*pause, arguments)
    return subprocess.Popen(
      [sys.executable, *arguments],
      cwd=ROOT,
      start_new_session=True,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      env=os.environ
      | dict(
        JAX_PLATFORMS='cpu',
        XLA_FLAGS=toy.ONE_DEVICE,
        JAX_COMPILATION_CACHE_DIR=str(self.cache),
      ),
    )

  def finish(self, workdir):
    process = self.start(workdir)
    _, complaint = process.communicate(timeout=900)
    assert process.returncode == 0, complaint


def killed(process, ready, delay):
  """Kills the process `delay` seconds after ready(), or returns False if it
  ended first."""
  end = None
  while process.poll() is None:
    end = time.time() + delay if end is None and ready() else end
    if end is not None and time.time() >= end:
      os.killpg(process.pid, signal.SIGKILL)
      process.communicate()
      return True
    time.sleep(0.002)
  _, complaint = process.communicate()
  assert process.returncode == 0, complaint
  return False


def saved(workdir):
  """The newest step of which there is a whole checkpoint."""
  paths = (workdir / 'checkpoints').glob('*')
  return max([int(p.name) for p in paths if p.name.isdigit()], default=0)


def assert_same(workdir, whole):
  """Metrics line by line, samples if any, and the parameters bit by bit."""

  def read(run, name):
    return files.read_jsonl(run / name)

  for ours, theirs in zip(
    read(workdir, 'metrics.jsonl'), read(whole, 'metrics.jsonl'), strict=True
  ):
    assert toy_metrics.without_timings(ours) == toy_metrics.without_timings(
      theirs
    )
  for name in ('samples.jsonl', 'groups.jsonl'):
    if (whole / name).exists():
      assert read(workdir, name) == read(whole, name)
  assert_same_model(workdir, whole)


def assert_same_model(workdir, whole):
  names = {path.name for path in toy.files(workdir / 'model')}
  assert names == {path.name for path in toy.files(whole / 'model')}
  for name in names:
    ours, theirs = workdir / 'model' / name, whole / 'model' / name
    assert ours.read_bytes() == theirs.read_bytes(), name


@pytest.fixture(scope='module')
def whole(base, tmp_path_factory):
  """(command, the work directory of an uninterrupted run)."""
  cache = tmp_path_factory.mktemp('cache')
  command = Command('rl', (f'init={base}/model', *CHANGES), cache)
  workdir = tmp_path_factory.mktemp('whole') / 'run'
  command.finish(workdir)
  return command, workdir


def test_the_run_has_all_that_a_checkpoint_must_hold(whole):
  _, workdir = whole
  steps = [line['step'] for line in files.read_jsonl(workdir / 'metrics.jsonl')]
  assert steps == list(range(13))
  facts = workdir / 'checkpoints' / '12' / 'facts' / 'metadata'
  facts = json.loads(facts.read_text())
  assert facts['next_prompt'] > 6 * 4  # dead groups were replaced
  assert facts['ref_step'] == 10


def test_a_run_killed_three_times_equals_an_uninterrupted_one(whole, tmp_path):
  command, uninterrupted = whole
  workdir, moments, kills = tmp_path / 'run', random.Random(0), 0
  for step in (2, 6, 8):

    def ready(step=step):
      return saved(workdir) >= step

    process = command.start(workdir, step + 4, tmp_path / f'pause-{step}')
    kills += killed(process, ready, moments.random() / 20)
  assert kills == 3
  command.finish(workdir)
  assert_same(workdir, uninterrupted)


def test_sft_resumes_from_its_last_checkpoint(base, tmp_path, monkeypatch):
  write = metrics.Writer.write

  def broken(writer, line):
    if line['step'] == 40:
      raise KeyboardInterrupt
    write(writer, line)

  with monkeypatch.context() as patch:
    patch.setattr(metrics.Writer, 'write', broken)
    with pytest.raises(KeyboardInterrupt):
      toy.run('sft', tmp_path)
  assert len(files.read_jsonl(tmp_path / 'metrics.jsonl')) == 39
  lines = toy.run('sft', tmp_path)
  whole = files.read_jsonl(base / 'metrics.jsonl')
  assert list(map(toy_metrics.without_timings, lines)) == list(
    map(toy_metrics.without_timings, whole)
  )
  assert_same_model(tmp_path, base)


@pytest.mark.parametrize(
  'rows', ['micro_batch_size=8', 'tokens_per_micro_batch=200']
)
def test_a_terminated_run_resumes_after_its_last_whole_rollout(
  rows, base, tmp_path, monkeypatch
):
  """Between the second rollout and its updates, whose state is then saved."""
  changes = (
    f'init={base}/model',
    'eval.every=0',
    'grpo.minibatches=2',
    rows,
    'save_every=9',
    'steps=6',
  )
  whole = toy.run('rl', tmp_path / 'whole', *changes)
  asked = iter([False, False, True])
  with monkeypatch.context() as patch:
    patch.setattr(hosts, 'terminate_requested', lambda: next(asked))
    with pytest.raises(errors.Terminated):
      toy.run('rl', tmp_path / 'run', *changes)
  assert saved(tmp_path / 'run') == 2
  assert len(files.read_jsonl(tmp_path / 'run' / 'metrics.jsonl')) == 2
  lines = toy.run('rl', tmp_path / 'run', *changes)
  assert list(map(toy_metrics.without_timings, lines)) == list(
    map(toy_metrics.without_timings, whole)
  )
  assert_same_model(tmp_path / 'run', tmp_path / 'whole')


def test_terminated_sft_saves_its_current_step(base, tmp_path, monkeypatch):
  asked = iter([False] * 29 + [True])
  with monkeypatch.context() as patch:
    patch.setattr(hosts, 'terminate_requested', lambda: next(asked))
    with pytest.raises(errors.Terminated):
      toy.run('sft', tmp_path)
  assert saved(tmp_path) == 30
  lines = toy.run('sft', tmp_path)
  whole = files.read_jsonl(base / 'metrics.jsonl')
  assert list(map(toy_metrics.without_timings, lines)) == list(
    map(toy_metrics.without_timings, whole)
  )
  assert_same_model(tmp_path, base)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(4))
def test_kills_at_any_moment_change_nothing(seed, whole, tmp_path):
  """Also while it starts, compiles, restores, saves, or exports the model."""
  command, uninterrupted = whole
  workdir, moments = tmp_path / 'run', random.Random(seed)
  kills = 0
  for delay in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0) * 2:
    delay *= 0.5 + moments.random()
    kills += killed(command.start(workdir), lambda: True, delay)
  assert kills >= 2  # Those without a delay come before the end.
  command.finish(workdir)
  assert_same(workdir, uninterrupted)


def pairs(path):
  """Correct sums are preferred to wrong ones."""
  rows = [
    dict(
      id=row['id'],
      prompt=row['prompt'],
      chosen=row['response'],
      rejected=row['response'].replace('<answer>', '<answer>1'),
    )
    for row in tasks.load_records('toy:running_sum?count=200&digits=3', 3)
  ]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


@pytest.mark.slow
@pytest.mark.parametrize('stage', ['sft', 'reward_model'])
def test_a_killed_sft_or_reward_model_run_equals_an_uninterrupted_one(
  stage, base, tmp_path
):
  changes = ('save_every=5',)
  if stage == 'reward_model':
    data = pairs(tmp_path / 'pairs.jsonl')
    changes += (f'init={base}/model', f'data={data}', 'max_len=48')
  command = Command(stage, changes, tmp_path / 'cache')
  command.finish(tmp_path / 'whole')
  workdir, kills = tmp_path / 'run', 0
  for step in (5, 20, 40):

    def ready(step=step):
      return saved(workdir) >= step

    process = command.start(workdir, step + 10, tmp_path / f'pause-{step}')
    kills += killed(process, ready, 0)
  assert kills == 3
  command.finish(workdir)
  assert_same(workdir, tmp_path / 'whole')
