import json
import os
import pathlib
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import time
import zlib

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1jax import checkpoint, errors

# What orbax leaves running after it met a damaged file.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning',
  'ignore:coroutine .* was never awaited',
)


@flax.struct.dataclass
class State:
  params: dict
  opt: optax.OptState
  step: jax.Array
  skipped: jax.Array


def make_state(step):
  key = jax.random.key(step)
  params = {
    'embed': jax.random.normal(key, (70, 50)),
    'half': jax.random.normal(key, (3, 5)).astype(jnp.bfloat16),
    'layers': [{'bits': jax.random.bits(key, (7,))}, {'on': jnp.array([True])}],
  }
  floats = {k: params[k] for k in ('embed', 'half')}
  opt = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
  return State(params, opt.init(floats), jnp.int32(step), np.arange(3) + step)


def facts_of(step):
  return dict(cursor=step * 32, order=[step, None], name='naïve')


def save_steps(directory, steps, scores=(), keep=9, best=0):
  manager = checkpoint.open_manager(directory, keep, best)
  for step in steps:
    score = dict(scores).get(step)
    checkpoint.save(manager, step, make_state(step), facts_of(step), score)
  checkpoint.close(manager)


def reopened(directory, like, step=None):
  manager = checkpoint.open_manager(directory, keep=9, best=0)
  try:
    return checkpoint.restore(manager, like, step)
  finally:
    checkpoint.close(manager)


def steps_on_disk(directory):
  return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit())


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    assert type(x) is type(y) and x.dtype == y.dtype and x.shape == y.shape
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def flip_bit(path, position):
  data = bytearray(path.read_bytes())
  data[int(position * (len(data) - 1))] ^= 4
  path.write_bytes(data)


def largest_file(directory):
  files = (p for p in directory.rglob('*') if p.is_file())
  return max(files, key=lambda p: p.stat().st_size)


def test_round_trip_is_bit_exact(tmp_path):
  save_steps(tmp_path / 'new' / 'checkpoints', [4])
  like = make_state(0)
  state, facts, step = reopened(tmp_path / 'new' / 'checkpoints', like)
  assert (facts, step) == (facts_of(4), 4)
  assert_same(state, make_state(4))


def test_shape_dtype_structs_with_shardings_serve_as_like(tmp_path):
  state = make_state(4).replace(skipped=jnp.arange(3) + 4)
  manager = checkpoint.open_manager(tmp_path, keep=1, best=0)
  checkpoint.save(manager, 4, state, {}, None)
  checkpoint.close(manager)
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )
  assert_same(reopened(tmp_path, like)[0], state)


def test_state_restores_onto_other_devices(tmp_path):
  n = len(jax.devices())
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ('data',))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
  replicate = jax.pmap(lambda _, x: x, in_axes=(0, None), out_axes=None)
  state = {
    'sharded': jax.device_put(jnp.arange(5.0 * n).reshape(n, 5), rows),
    'pmapped': replicate(jnp.arange(n), jnp.arange(5.0 * n).reshape(n, 5) + 1),
  }
  manager = checkpoint.open_manager(tmp_path, keep=1, best=0)
  checkpoint.save(manager, 1, state, {}, None)
  checkpoint.close(manager)
  like = {
    'sharded': jnp.zeros((n, 5)),
    'pmapped': jax.device_put(jnp.zeros((n, 5)), rows),
  }
  restored, _, _ = reopened(tmp_path, like)
  for name, x in restored.items():
    assert x.sharding == like[name].sharding
    np.testing.assert_array_equal(x, state[name])


def test_state_is_as_it_was_when_save_returned(tmp_path):
  manager = checkpoint.open_manager(tmp_path, keep=1, best=0)
  state = {'donated': jnp.full((999, 99), 3.0), 'host': np.full((999, 99), 3.0)}
  like = jax.tree.map(np.zeros_like, state)
  checkpoint.save(manager, 1, state, {}, None)
  state['host'][:] = 0
  jax.jit(lambda x: x * 0, donate_argnums=0)(state['donated'])
  checkpoint.close(manager)
  restored, _, _ = reopened(tmp_path, like)
  np.testing.assert_array_equal(restored['donated'], 3)
  np.testing.assert_array_equal(restored['host'], 3)


def test_nothing_saved_restores_none(tmp_path):
  assert reopened(tmp_path, make_state(0)) is None


@pytest.mark.parametrize('position', [0, 0.1, 0.4, 0.7, 0.95])
def test_flipped_bit_falls_back_to_the_step_before(tmp_path, capfd, position):
  save_steps(tmp_path, [1, 2])
  flip_bit(largest_file(tmp_path / '2' / 'state'), position)
  manager = checkpoint.open_manager(tmp_path, keep=9, best=0)
  state, facts, step = checkpoint.restore(manager, make_state(0))
  said = capfd.readouterr().err
  assert 'step 2' in said and 'DAMAGED' in said and 'back to step 1' in said
  assert (facts, step) == (facts_of(1), 1)
  assert_same(state, make_state(1))
  # The run goes on and comes to the damaged step again.
  checkpoint.save(manager, 2, make_state(2), facts_of(2), None)
  checkpoint.close(manager)
  state, _, step = reopened(tmp_path, make_state(0))
  assert step == 2
  assert_same(state, make_state(2))


def test_flipped_bit_anywhere_never_restores_wrong_values(tmp_path, capfd):
  save_steps(tmp_path, [1, 2])
  rng = random.Random(0)
  files = [p for p in (tmp_path / '2').rglob('*') if p.is_file()]
  for path in files:
    before = path.read_bytes()
    flip_bit(path, rng.random())
    state, facts, step = reopened(tmp_path, make_state(0))
    assert facts == facts_of(step)
    assert_same(state, make_state(step))
    assert (step == 1) == ('DAMAGED' in capfd.readouterr().err)
    # Undo: take the step back from aside, as it was.
    for aside in tmp_path.glob('damaged-2-*'):
      aside.rename(tmp_path / '2')
    path.write_bytes(before)


def test_damage_that_orbax_restores_is_named_by_its_leaf(tmp_path, capfd):
  save_steps(tmp_path, [1, 2])
  flip_bit(largest_file(tmp_path / '2' / 'state'), 0.5)
  assert reopened(tmp_path, make_state(0))[2] == 1
  assert (
    'leaf params/embed does not match its checksum' in capfd.readouterr().err
  )


@pytest.mark.parametrize(
  'name', ['facts/metadata', 'crcs/metadata', 'metrics/metrics']
)
@pytest.mark.parametrize('position', [0, 0.5, 1])
def test_flipped_bit_in_facts_falls_back(tmp_path, capfd, name, position):
  save_steps(tmp_path, [1, 2], scores={1: 0.25, 2: 0.5})
  flip_bit(tmp_path / '2' / name, position)
  _, facts, step = reopened(tmp_path, make_state(0))
  assert (facts, step) == (facts_of(1), 1)
  assert 'DAMAGED' in capfd.readouterr().err


def test_no_good_step_is_an_error_every_time(tmp_path):
  save_steps(tmp_path, [1, 2])
  flip_bit(largest_file(tmp_path / '1' / 'state'), 0.5)
  flip_bit(tmp_path / '2' / 'facts' / 'metadata', 0.5)
  for _ in range(2):
    with pytest.raises(errors.UserError, match='can be restored'):
      reopened(tmp_path, make_state(0))


def test_step_asked_for_is_the_one_restored(tmp_path):
  save_steps(tmp_path, [1, 2, 3])
  state, _, step = reopened(tmp_path, make_state(0), step=2)
  assert step == 2
  assert_same(state, make_state(2))
  with pytest.raises(errors.UserError, match='no step 7'):
    reopened(tmp_path, make_state(0), step=7)
  flip_bit(largest_file(tmp_path / '2' / 'state'), 0.5)
  with pytest.raises(errors.UserError, match='can be restored'):
    reopened(tmp_path, make_state(0), step=2)
  assert steps_on_disk(tmp_path) == [1, 2, 3]


def test_half_written_steps_are_ignored(tmp_path, capfd):
  save_steps(tmp_path, [1])
  (tmp_path / '2').mkdir()
  (tmp_path / '3' / 'state').mkdir(parents=True)
  (tmp_path / '4.orbax-checkpoint-tmp' / 'state').mkdir(parents=True)
  manager = checkpoint.open_manager(tmp_path, keep=9, best=0)
  assert manager.latest_step() == 1
  assert 'incomplete' in capfd.readouterr().err
  assert checkpoint.restore(manager, make_state(0))[2] == 1
  checkpoint.save(manager, 2, make_state(2), facts_of(2), None)
  checkpoint.close(manager)
  assert steps_on_disk(tmp_path) == [1, 2]
  assert not list(tmp_path.glob('*orbax-checkpoint-tmp*'))


def test_half_written_first_step_is_a_fresh_start(tmp_path):
  (tmp_path / '1').mkdir()
  assert reopened(tmp_path, make_state(0)) is None


def test_newest_and_best_are_kept_over_a_restart(tmp_path):
  scores = {1: 0.5, 3: 0.9, 4: -0.1, 7: 0.7}
  save_steps(tmp_path, range(1, 5), scores, keep=2, best=2)
  assert steps_on_disk(tmp_path) == [1, 3, 4]
  save_steps(tmp_path, range(5, 11), scores, keep=2, best=2)
  assert steps_on_disk(tmp_path) == [3, 7, 9, 10]


def test_step_without_a_score_is_never_best(tmp_path):
  save_steps(tmp_path, range(1, 5), {}, keep=1, best=3)
  assert steps_on_disk(tmp_path) == [4]
  save_steps(tmp_path, range(5, 8), {5: -1.0}, keep=1, best=3)
  assert steps_on_disk(tmp_path) == [5, 7]


def rewrite_facts(path, change):
  """Changes what a step says of itself, and signs it again."""
  path = path / 'crcs' / 'metadata'
  crcs = json.loads(path.read_text())
  del crcs['crcs']
  change(crcs)
  path.write_text(json.dumps(dict(crcs, crcs=checkpoint._json_crc(crcs))))


def as_format_1(directory, step):
  """A step as it was before formats had numbers: a CRC32 of each leaf."""

  def change(crcs):
    del crcs['format']
    for name, leaf in checkpoint._named_leaves(make_state(step)).items():
      crcs['leaves'][name][2] = zlib.crc32(np.asarray(leaf).tobytes())

  rewrite_facts(directory / str(step), change)


def test_the_older_format_is_named_verified_and_restored(tmp_path, capfd):
  save_steps(tmp_path, [1, 2])
  as_format_1(tmp_path, 1)
  as_format_1(tmp_path, 2)
  state, _, step = reopened(tmp_path, make_state(0))
  assert step == 2 and 'has the older format 1' in capfd.readouterr().err
  assert_same(state, make_state(2))
  flip_bit(largest_file(tmp_path / '2' / 'state'), 0.5)
  state, _, step = reopened(tmp_path, make_state(0))
  assert step == 1 and 'embed does not match' in capfd.readouterr().err
  assert_same(state, make_state(1))


def test_a_format_of_the_future_is_refused_and_stays(tmp_path):
  save_steps(tmp_path, [1, 2])
  rewrite_facts(tmp_path / '2', lambda crcs: crcs.update(format=3))
  with pytest.raises(errors.UserError, match='step 2 in .* has the format 3'):
    reopened(tmp_path, make_state(0))
  assert steps_on_disk(tmp_path) == [1, 2]


def test_old_step_is_refused(tmp_path):
  save_steps(tmp_path, [5])
  for step in (4, 5):
    with pytest.raises(errors.UserError, match='already holds step 5'):
      save_steps(tmp_path, [step])


def test_other_dtype_is_refused(tmp_path):
  save_steps(tmp_path, [1])
  like = make_state(0)
  like.params['half'] = like.params['half'].astype(jnp.float32)
  with pytest.raises(
    errors.UserError, match='params/half as bfloat16.*float32'
  ):
    reopened(tmp_path, like)


def test_other_shape_is_refused(tmp_path):
  save_steps(tmp_path, [1])
  like = make_state(0)
  like.params['embed'] = like.params['embed'].T
  with pytest.raises(errors.UserError, match=r'\[70, 50\].*\[50, 70\]'):
    reopened(tmp_path, like)


def test_other_tree_is_refused_with_the_names(tmp_path):
  save_steps(tmp_path, [1])
  like = make_state(0)
  with pytest.raises(errors.UserError, match='lacks params/bias'):
    reopened(tmp_path, like.replace(params={**like.params, 'bias': like.step}))
  with pytest.raises(errors.UserError, match='this run lacks, params/half'):
    like.params.pop('half')
    reopened(tmp_path, like)


@pytest.mark.parametrize('by_saving', [True, False])
def test_disk_full_is_raised_and_never_latest(tmp_path, by_saving):
  manager = checkpoint.open_manager(tmp_path, keep=1, best=0)
  checkpoint.save(manager, 1, make_state(1), facts_of(1), None)
  manager.wait_until_finished()
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  big = {'noise': jax.random.normal(jax.random.key(0), (100_000,))}
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    checkpoint.save(manager, 2, big, {}, None)
    with pytest.raises(OSError, match='could not be written.*step is 1'):
      if by_saving:
        checkpoint.save(manager, 3, make_state(3), facts_of(3), None)
      else:
        checkpoint.close(manager)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert manager.latest_step() == 1
  if by_saving:
    checkpoint.save(manager, 3, make_state(3), facts_of(3), None)
    checkpoint.close(manager)
  assert reopened(tmp_path, make_state(0))[2] == (3 if by_saving else 1)


def start(script, *args):
  """A python in its own session, where tests and the script's names are."""
  root = pathlib.Path(__file__).parent.parent
  env = dict(
    os.environ,
    JAX_PLATFORMS='cpu',
    XLA_FLAGS='',
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
  from test_checkpoint import checkpoint, facts_of, make_state
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
  """Lets a child save until killed; returns the step that then restores."""
  child = start(SAVE_FOREVER, directory)
  said, steps = '', rng.randint(1, 5)
  try:
    while said.count('saving') < steps:
      line = child.stdout.readline()
      assert line, said
      said += line
    time.sleep(rng.uniform(0, 0.1))
  finally:
    os.killpg(child.pid, signal.SIGKILL)
  # A last line may be cut short by the kill.
  said += child.stdout.read()
  saving = int(re.findall(r'saving (\d+)\n', said)[-1])
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
  import test_checkpoint as t
  P = PartitionSpec
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ('data',))

  def make_state(step):
    rows = np.arange(6000, dtype=np.float32).reshape(60, 100) ** 0.5 + step
    put = lambda x, spec: jax.make_array_from_callback(
      x.shape, NamedSharding(mesh, spec), lambda i: x[i])
    return {'split': put(rows, P(None, 'data')), 'whole': put(rows, P())}

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



  # What one of them alone reads wrong, none of them restores; and what each
  # has for itself is one array for all.
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

  def read_badly(path):
    if path.name == '2' and jax.process_index():
      raise ValueError('a cable is loose')
    return read(path)

  t.checkpoint._read_facts = read_badly
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
      said, _ = child.communicate(timeout=60)
      assert child.returncode == 0, said
  finally:
    for child in children:
      child.kill()
