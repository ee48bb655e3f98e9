"""A state of every kind of leaf, its steps on disk, and damage to them."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1jax.training import checkpoint


class State(flax.struct.PyTreeNode):
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
  return State(
    params=params,
    opt=opt.init(floats),
    step=jnp.int32(step),
    skipped=np.arange(3) + step,
  )


def facts_of(step):
  return dict(cursor=step * 32, order=[step, None], name='naïve')


def save_steps(directory, steps, scores=(), keep=9, best=0):
  manager = checkpoint.open_manager(directory, keep, best)
  for step in steps:
    score = dict(scores).get(step)
    checkpoint.save(manager, step, make_state(step), facts_of(step), score)
  checkpoint.close(manager)


def reopened(directory, like):
  manager = checkpoint.open_manager(directory, keep=9, best=0)
  try:
    return checkpoint.restore(manager, like)
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
