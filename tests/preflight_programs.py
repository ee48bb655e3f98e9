"""Small programs for v5e chips that are not present. tests/preflight/hlo has
their compiled texts, without metadata."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from r1jax.preflight import chips
from r1jax.preflight.compiler import programs

AXES = dict(
  layers=(('data', 2), ('model', 2)),
  decode=(('data', 1),),
  slices=(('slice', 2), ('data', 4)),
)


def make_mesh(axes, slices=1):
  devices = programs.devices_of(chips.pod('v5e:2x2', slices))
  names, sizes = zip(*axes)
  devices = np.array(devices[: np.prod(sizes)]).reshape(sizes)
  return Mesh(devices, names, axis_types=(AxisType.Auto,) * len(sizes))


def array(mesh, shape, spec=None, dtype=jnp.bfloat16):
  sharding = NamedSharding(mesh, spec or P())
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def layers():
  """Multiplies by five weights [1024, 1024], each gathered along 'data'; the
  products are summed along 'model'."""
  mesh = make_mesh(AXES['layers'])

  def fn(weights, x):
    def body(x, w):
      w = jax.lax.all_gather(w, 'data', axis=0, tiled=True)
      return jax.lax.psum(x @ w, 'model').astype(x.dtype), None

    return jax.lax.scan(body, x, weights)[0]

  fn = jax.shard_map(
    fn,
    mesh=mesh,
    in_specs=(P(None, 'data'), P('data', 'model')),
    out_specs=P('data', 'model'),
    check_vma=False,
  )
  return jax.jit(fn).trace(
    array(mesh, (5, 1024, 1024), P(None, 'data')),
    array(mesh, (2048, 2048), P('data', 'model')),
  )


def decode():
  """A loop of unknown length that writes a column of a donated cache [8, 8192,
  512] in every iteration."""
  mesh = make_mesh(AXES['decode'])

  def fn(cache, w, steps):
    def body(carry):
      t, cache, x = carry
      x = jnp.tanh(x @ w)
      new = x[None, :, None]
      cache = jax.lax.dynamic_update_slice(cache, new, (0, 0, t, 0))
      return t + 1, cache, x + jnp.einsum('lbtd->bd', cache)

    x = jnp.ones((8, 512), jnp.bfloat16)
    return jax.lax.while_loop(lambda c: c[0] < steps, body, (0, cache, x))[1]

  return jax.jit(fn, donate_argnums=0).trace(
    array(mesh, (1, 8, 8192, 512)),
    array(mesh, (512, 512)),
    array(mesh, (), dtype=jnp.int32),
  )


def slices():
  """A sum of float32 [1024, 1024] over four chips of each of two slices."""
  mesh = make_mesh(AXES['slices'], slices=2)
  fn = jax.shard_map(
    lambda x: jax.lax.psum(x, ('slice', 'data')),
    mesh=mesh,
    in_specs=P(('slice', 'data')),
    out_specs=P(),
    check_vma=False,
  )
  rows = array(mesh, (8 * 1024, 1024), P(('slice', 'data')), jnp.float32)
  return jax.jit(fn).trace(rows)
