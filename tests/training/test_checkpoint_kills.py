"""Checkpoints of processes that are killed, and of two processes together."""

import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest
import toy
from toy_checkpoint import assert_same, facts_of, make_state, reopened


def start(script, *args):
  """A Python process in its own session, which can import from tests/."""
  root = pathlib.Path(__file__).parents[2]
  env = dict(
    os.environ,
    JAX_PLATFORMS='cpu',
    XLA_FLAGS=toy.ONE_DEVICE,
    PYTHONPATH=f'{root}:{root / "tests"}',
  )
  return subprocess.Popen(
    [sys.executable, '-c', textwrap.dedent(script), *map(str, args)],
    env=env,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
  )


SAVE_FOREVER = """
  import sys
  from toy_checkpoint import checkpoint, facts_of, make_state
  manager = checkpoint.open_manager(sys.argv[1], keep=2, best=1)
  found = checkpoint.restore(manager, make_state(0))
  step = found[2] if found else 0
  while True:
    step += 1
    score = step % 7 if step % 2 else None
    checkpoint.save(manager, step, make_state(step), facts_of(step), score)
    print(f'saving {step}', flush=True)
"""


def kill_and_restore(directory, rng):
  """Kills a child that saves; returns the step that is restored then."""
  child = start(SAVE_FOREVER, directory)
  output, steps = '', rng.randint(1, 5)
  try:
    while output.count('saving') < steps:
      line = child.stdout.readline()
      assert line, output
      output += line
    time.sleep(rng.uniform(0, 0.1))
  finally:
    os.killpg(child.pid, signal.SIGKILL)
  # The kill may truncate the last line.
  output += child.stdout.read()
  saving = int(re.findall(r'saving (\d+)\n', output)[-1])
  child.wait()
  found = reopened(directory, make_state(0))
  if found is None:
    assert saving == 1
    return 0
  state, facts, step = found
  assert step >= saving - 1 and facts == facts_of(step)
  assert_same(state, make_state(step))
  return step


def test_two_kills_leave_a_restorable_step(tmp_path):
  rng = random.Random(0)
  first = kill_and_restore(tmp_path, rng)
  assert kill_and_restore(tmp_path, rng) >= first


@pytest.mark.slow
def test_many_kills_leave_a_restorable_step(tmp_path):
  rng, step = random.Random(1), 0
  for _ in range(6):
    newer = kill_and_restore(tmp_path, rng)
    assert newer >= step
    step = newer
  assert not list(tmp_path.glob('damaged-*'))


TWO_PROCESSES = """
  import pathlib, sys
  import jax, numpy as np
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[3]))
  from jax.experimental import multihost_utils
  from jax.sharding import NamedSharding, PartitionSpec
  import toy_checkpoint as t
  P = PartitionSpec
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ('data',))

  def make_state(step):
    rows = np.arange(6000, dtype=np.float32).reshape(60, 100) ** 0.5 + step
    put = lambda x, spec: jax.make_array_from_callback(
      x.shape, NamedSharding(mesh, spec), lambda i: x[i])
    return {'sharded': put(rows, P(None, 'data')), 'replicated': put(rows, P())}

  directory = pathlib.Path(sys.argv[1])
  manager = t.checkpoint.open_manager(directory, keep=9, best=0)
  for step in (1, 2):
    t.checkpoint.save(manager, step, make_state(step), dict(step=step), None)
  t.checkpoint.close(manager)
  multihost_utils.sync_global_devices('saved')
  if jax.process_index() == 0:
    t.flip_bit(t.largest_file(directory / '2' / 'state'), 0.5)
  multihost_utils.sync_global_devices('damaged')
  manager = t.checkpoint.open_manager(directory, keep=9, best=0)
  state, facts, step = t.checkpoint.restore(manager, make_state(0))
  assert facts == dict(step=1) and step == 1 and manager.latest_step() == 1
  for name, leaf in make_state(1).items():
    for x, y in zip(state[name].addressable_shards, leaf.addressable_shards):
      np.testing.assert_array_equal(x.data, y.data)
  t.checkpoint.close(manager)

  # Arrays of one process, the same on both, are saved once. A step that only
  # one process finds damaged is not restored by the other either.
  own = lambda step: {'own': jax.device_put(np.full((3, 5), step + 0.5))}
  manager = t.checkpoint.open_manager(directory / 'own', keep=9, best=0)
  for step in (1, 2):
    t.checkpoint.save(manager, step, own(step), {}, None)
  t.checkpoint.close(manager)
  manager = t.checkpoint.open_manager(directory / 'own', keep=9, best=0)
  state, _, step = t.checkpoint.restore(manager, own(0))
  assert step == 2 and state['own'].is_fully_addressable
  np.testing.assert_array_equal(state['own'], 2.5)
  read = t.checkpoint._read_facts

  def fail_on_one_process(path):
    if path.name == '2' and jax.process_index():
      raise ValueError('damaged')
    return read(path)

  t.checkpoint._read_facts = fail_on_one_process
  state, _, step = t.checkpoint.restore(manager, own(0))
  assert step == 1
  np.testing.assert_array_equal(state['own'], 1.5)
"""


@pytest.mark.slow
def test_two_processes_fall_back_together(tmp_path):
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{s.getsockname()[1]}'
  children = [start(TWO_PROCESSES, tmp_path, address, i) for i in range(2)]
  try:
    for child in children:
      output, _ = child.communicate(timeout=900)
      assert child.returncode == 0, output
  finally:
    for child in children:
      child.kill()
