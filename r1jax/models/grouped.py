"""Products of groups of rows, each with a matrix of its own.

The rows of a group are adjacent. Rows after the last group belong to none: their
results are 0, and gradients with respect to them are 0.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import linear

# ragged: jax.lax.ragged_dot. XLA's CPU backend multiplies every row by every
# matrix for it.
# blocks: a loop over blocks of rows, for CPUs.
# gmm: the Pallas kernel megablox, for TPUs.
Form = Literal['ragged', 'blocks', 'gmm']
MIN_BLOCK, MAX_BLOCK = 8, 64  # rows of 'blocks'
TILE = 512, 1024, 1024  # of 'gmm': rows, contracted channels, channels
# Of its gradient in w, whose float32 tile of channels x channels is in the fast
# memory three times.
OUTER_TILE = 512, 512, 1024


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def dot(form: Form, x_MD: Array, w_EDF: Array, size_E: Array) -> Array:
  """out_MF in float32: the first size_E[0] rows of x times w[0], the following
  size_E[1] rows times w[1], and so on.

  As in linear.py, the backward pass casts the cotangent to the dtype of x.
  """
  out_MF = times(form, x_MD, w_EDF, size_E)
  return jnp.where(_in_a_group(x_MD, size_E), out_MF, 0)


def _forward(form, x_MD, w_EDF, size_E):
  return dot(form, x_MD, w_EDF, size_E), (x_MD, w_EDF, size_E)


def _backward(form, saved, g_MF):
  x_MD, w_EDF, size_E = saved
  g_MF = g_MF.astype(x_MD.dtype)
  dx_MD = times_transposed(form, g_MF, w_EDF, size_E)
  dx_MD = jnp.where(_in_a_group(g_MF, size_E), dx_MD, 0).astype(x_MD.dtype)
  dw_EDF = add_outer(form, None, x_MD, g_MF, size_E).astype(w_EDF.dtype)
  return dx_MD, dw_EDF, None


dot.defvjp(_forward, _backward)


def times_transposed(
  form: Form, x_MF: Array, w_EDF: Array, size_E: Array
) -> Array:
  """out_MD: `times` with the transposed matrices."""
  if form == 'gmm':
    return _gmm(x_MF, w_EDF, size_E, transposed=True)
  return times(form, x_MF, w_EDF.swapaxes(1, 2), size_E)


def times(form: Form, x_MD: Array, w_EDF: Array, size_E: Array) -> Array:
  """`dot` without gradients, with any results in rows of no group."""
  if form == 'ragged':
    return jax.lax.ragged_dot(
      x_MD,
      w_EDF,
      size_E,
      linear.precision(x_MD),
      preferred_element_type=jnp.float32,
    )
  if form == 'gmm':
    return _gmm(x_MD, w_EDF, size_E)
  block, expert_N, start_N, _ = _blocks(len(x_MD), size_E)

  def step(out, inputs):
    # The rows after the group are overwritten by the blocks that follow.
    expert, start = inputs
    rows = jax.lax.dynamic_slice_in_dim(x, start, block)
    rows = linear.dot(rows, w_EDF[expert])
    return jax.lax.dynamic_update_slice_in_dim(out, rows, start, 0), None

  x = jnp.pad(x_MD, ((0, block), (0, 0)))
  out = jnp.zeros((len(x), w_EDF.shape[2]), jnp.float32)
  out, _ = jax.lax.scan(step, out, (expert_N, start_N))
  return out[: len(x_MD)]


def add_outer(
  form: Form, sum_EDF: Array | None, x_MD: Array, g_MF: Array, size_E: Array
) -> Array:
  """The float32 sum_EDF, or 0, + x' g over the rows of each group."""
  if form == 'gmm':
    return _tgmm(sum_EDF, x_MD, g_MF, size_E)
  if form == 'ragged':
    numbers = jax.lax.RaggedDotDimensionNumbers(
      dot_dimension_numbers=(((0,), (0,)), ((), ())),
      lhs_ragged_dimensions=[0],
      rhs_group_dimensions=[],
    )
    dw_EDF = jax.lax.ragged_dot_general(
      x_MD,
      g_MF,
      size_E,
      numbers,
      linear.precision(x_MD),
      preferred_element_type=jnp.float32,
    )
    return dw_EDF if sum_EDF is None else sum_EDF + dw_EDF
  block, expert_N, start_N, count_N = _blocks(len(x_MD), size_E)

  def step(dw_EDF, inputs):
    expert, start, count = inputs
    rows = jax.lax.dynamic_slice_in_dim(x, start, block)
    g = jax.lax.dynamic_slice_in_dim(g_all, start, block)
    rows = jnp.where(jnp.arange(block)[:, None] < count, rows, 0)
    return dw_EDF.at[expert].add(linear.dot(rows.T, g)), None

  x, g_all = (jnp.pad(a, ((0, block), (0, 0))) for a in (x_MD, g_MF))
  if sum_EDF is None:
    shape = len(size_E), x.shape[1], g_all.shape[1]
    sum_EDF = jnp.zeros(shape, jnp.float32)
  return jax.lax.scan(step, sum_EDF, (expert_N, start_N, count_N))[0]


def _in_a_group(x_MD, size_E):
  return jnp.arange(len(x_MD))[:, None] < size_E.sum()


def _blocks(rows, size_E):
  """(rows of a block, and of each block its expert, first row, and number of
  rows in the group) of as many blocks as any groups of `rows` rows can need."""
  experts = len(size_E)
  block = MIN_BLOCK
  while block < MAX_BLOCK and block * experts < rows:
    block *= 2
  blocks_E = -(-size_E // block)
  end_E = jnp.cumsum(blocks_E)
  block_N = jnp.arange(rows // block + experts)
  expert_N = jnp.searchsorted(end_E, block_N, side='right')
  is_used_N = expert_N < experts
  expert_N = jnp.where(is_used_N, expert_N, 0)
  first_row_E = jnp.cumsum(size_E) - size_E
  row_N = (block_N - (end_E - blocks_E)[expert_N]) * block
  count_N = jnp.clip(size_E[expert_N] - row_N, 0, block)
  # Blocks that are not used write behind the rows.
  start_N = jnp.where(is_used_N, first_row_E[expert_N] + row_N, rows)
  return block, expert_N, start_N, jnp.where(is_used_N, count_N, 0)


def _gmm(x_MD, w_EDF, size_E, transposed=False):
  from jax.experimental.pallas.ops.tpu.megablox.gmm import gmm

  channels = w_EDF.shape[:0:-1] if transposed else w_EDF.shape[1:]
  tile, x = _tiled(TILE, x_MD, channels)
  out = gmm(x, w_EDF, size_E, jnp.float32, tile, transpose_rhs=transposed)
  return out[: len(x_MD)]


def _tgmm(sum_EDF, x_MD, g_MF, size_E):
  from jax.experimental.pallas.ops.tpu.megablox.gmm import tgmm

  channels = x_MD.shape[1], g_MF.shape[1]
  tile, x = _tiled(OUTER_TILE, x_MD, channels)
  _, g = _tiled(OUTER_TILE, g_MF, channels)
  return tgmm(x.T, g, size_E, jnp.float32, tile, existing_out=sum_EDF)


def _tiled(tile, x, channels):
  """(the tile, x with as many rows as the tile requires)."""
  tile = tuple(min(a, b) for a, b in zip(tile, (len(x), *channels)))
  return tile, jnp.pad(x, ((0, -len(x) % tile[0]), (0, 0)))
