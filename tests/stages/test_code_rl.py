"""RL whose reward is whether a program passes its tests, with workers that are
killed at random meanwhile."""

import itertools
import os
import pathlib
import random
import threading

import pytest

from experiments import code_base, code_zero
from r1jax import config, files
from r1jax.sandbox import tiers, workers
from r1jax.stages import rl, sft

HERE = any(tier for _, tier, _ in tiers.probe())


def worker_ids():
  """The process ids of this process's workers."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*'):
    try:
      parent = (path / 'stat').read_text().rpartition(')')[2].split()[1]
      words = (path / 'cmdline').read_bytes().split(b'\0')
    except OSError:  # it has ended
      continue
    if int(parent) == os.getpid() and b'r1jax.sandbox.workers' in words:
      found.append(int(path.name))
  return found


def kill_at_random(monkeypatch, every):
  """Kills a worker during one of `every` jobs. Returns the list of the killed
  processes, which grows."""
  killed, draw, jobs = [], random.Random(0), itertools.count(1)
  run = workers._Worker.run

  def run_and_kill(worker, *args):
    if next(jobs) % every == 0:
      killed.append(worker.process)
      threading.Timer(draw.uniform(0, 0.1), worker.process.kill).start()
    return run(worker, *args)

  monkeypatch.setattr(workers._Worker, 'run', run_and_kill)
  return killed


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason='no sandbox tier works on this machine')
def test_a_run_learns_to_write_functions_while_its_workers_are_killed(
  tmp_path, monkeypatch
):
  changes = ['data=toy:function?count=16000&digits=1', 'epochs=2']
  base = config.override(
    code_base.get_config(), [f'--config.{x}' for x in changes]
  )
  sft.run(base, tmp_path / 'base')
  zero = code_zero.get_config()
  zero.init = str(tmp_path / 'base' / 'model')
  zero.steps = 12
  zero.eval.every = 12
  zero.verify.workers = 2
  killed = kill_at_random(monkeypatch, every=20)
  rl.run(zero, tmp_path / 'zero')
  lines = files.read_jsonl(tmp_path / 'zero' / 'metrics.jsonl')
  rewards = [line['reward'] for line in lines if 'reward' in line]
  assert len(killed) > 3
  assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.5
  assert lines[-1]['eval/pass1'] > lines[0]['eval/pass1'] + 0.1
  assert all(line['unscored'] < 0.1 for line in lines if 'unscored' in line)
  assert not worker_ids()
