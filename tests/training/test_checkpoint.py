"""A state is restored bit for bit, or not at all."""

import random
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_checkpoint import (
  assert_same,
  facts_of,
  flip_bit,
  largest_file,
  make_state,
  reopened,
  save_steps,
  steps_on_disk,
)

from r1jax import errors
from r1jax.training import checkpoint

# Orbax leaves coroutines behind after it has read a damaged file.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning',
  'ignore:coroutine .* was never awaited',
)


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
def test_flipped_bit_falls_back_to_the_previous_step(tmp_path, capfd, position):
  save_steps(tmp_path, [1, 2])
  flip_bit(largest_file(tmp_path / '2' / 'state'), position)
  manager = checkpoint.open_manager(tmp_path, keep=9, best=0)
  state, facts, step = checkpoint.restore(manager, make_state(0))
  output = capfd.readouterr().err
  assert (
    'step 2' in output and 'DAMAGED' in output and 'back to step 1' in output
  )
  assert (facts, step) == (facts_of(1), 1)
  assert_same(state, make_state(1))
  # The run continues, and reaches the damaged step again.
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
    # Undo the damage.
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
  'name', ['facts/metadata', 'manifest/metadata', 'metrics/metrics']
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
    errors.UserError, match=r'params/half is bfloat16\[3, 5\] there and float32'
  ):
    reopened(tmp_path, like)


def test_other_shape_is_refused(tmp_path):
  save_steps(tmp_path, [1])
  like = make_state(0)
  like.params['embed'] = like.params['embed'].T
  with pytest.raises(errors.UserError, match=r'\[70, 50\].*\[50, 70\]'):
    reopened(tmp_path, like)


def test_other_tree_is_refused_with_the_name_of_a_leaf(tmp_path):
  save_steps(tmp_path, [1])
  like = make_state(0)
  with pytest.raises(errors.UserError, match='params/bias is absent there'):
    reopened(tmp_path, like.replace(params={**like.params, 'bias': like.step}))
  with pytest.raises(
    errors.UserError, match='params/half is .* and absent in this run'
  ):
    like.params.pop('half')
    reopened(tmp_path, like)


@pytest.mark.parametrize('by_saving', [True, False])
def test_disk_full_is_raised_and_never_latest(tmp_path, by_saving, caplog):
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
  assert not [x for x in caplog.records if x.exc_info]  # but one sentence
  if by_saving:
    checkpoint.save(manager, 3, make_state(3), facts_of(3), None)
    checkpoint.close(manager)
  assert reopened(tmp_path, make_state(0))[2] == (3 if by_saving else 1)
