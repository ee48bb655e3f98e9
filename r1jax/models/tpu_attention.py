"""Attention on TPUs: Pallas kernels for a call's own keys and for decoding."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl

from r1jax.models import linear, sequence_packing
from r1jax.models.attention import MASKED_SCORE, TILE, Form, KeysValues

# From this row length on the fused backward kernel needs too much memory.
FUSED_BACKWARD_LIMIT = 16384
BLOCK_BYTES = 1 << 20  # of the keys that the decode kernel reads at a time
SUBLANES = 16  # rows of a tile in bfloat16


def splash(
  form: Form,
  q_BTKGC: Array,
  kv_BKTC: KeysValues,
  pos_BT: Array,
  window: int = 0,
  sink_KG: Array | None = None,
  interpret: bool = False,
) -> Array:
  """attend over the call's own keys, by the Pallas TPU kernel "splash
  attention", which does not write the scores to memory. window 0: none.

  The real tokens of a sequence are contiguous, so the visible keys are those of a
  causal (and local) mask with a segment for each sequence, and one for padding.
  """
  B, T, K, G, C = q_BTKGC.shape
  q_BTHC = (q_BTKGC * form.scale).astype(q_BTKGC.dtype)
  q_BTHC = q_BTHC.reshape(B, T, K * G, C)
  q_BHTC = _pad_to_tiles(q_BTHC, 1).swapaxes(1, 2)
  segment_BT = _pad_to_tiles(sequence_packing.sequence_numbers(pos_BT), 1)
  k_BKTC, v_BKTC = (_pad_to_tiles(a, 2) for a in kv_BKTC)
  length = segment_BT.shape[1]
  attend_row = _splash_kernel(K * G, length, window, form.softcap, interpret)
  sink_H = None if sink_KG is None else sink_KG.reshape(-1)
  attend_rows = jax.vmap(attend_row, in_axes=(0, 0, 0, 0, None))
  out_BHTC = attend_rows(q_BHTC, k_BKTC, v_BKTC, segment_BT, sink_H)
  return out_BHTC.swapaxes(1, 2)[:, :T].reshape(B, T, K, G, -1)


def _pad_to_tiles(a, axis):
  fill = -a.shape[axis] % TILE
  return jnp.pad(a, [(0, fill if i == axis else 0) for i in range(a.ndim)])


@functools.cache
def _splash_kernel(heads, T, window, softcap, interpret):
  from jax.experimental.pallas.ops.tpu import splash_attention

  block = max(n for n in (512, 256, TILE) if T % n == 0)
  fused = T < FUSED_BACKWARD_LIMIT
  dq_block = None if fused else block
  # Three sizes for the forward pass, three for dk and dv, two for dq.
  sizes = splash_attention.BlockSizes(
    *[block] * 6, dq_block, dq_block, use_fused_bwd_kernel=fused
  )
  mask = splash_attention.CausalMask((T, T))
  if window:
    mask = splash_attention.LocalMask((T, T), (window - 1, 0), 0)
  with jax.ensure_compile_time_eval():
    kernel = splash_attention.make_splash_mha_single_device(
      splash_attention.MultiHeadMask([mask] * heads),
      block_sizes=sizes,
      attn_logits_soft_cap=softcap or None,
      interpret=interpret,
    )

  def attend_row(q_HTC, k_KTC, v_KTC, segment_T, sink_H):
    segments = splash_attention.SegmentIds(segment_T, segment_T)
    return kernel(q_HTC, k_KTC, v_KTC, segments, sink_H)

  return attend_row


def attend_filled(
  form: Form,
  q_B1KGC: Array,
  cache_BKSC: KeysValues,
  length_B: Array,
  window: int = 0,
  sink_KG: Array | None = None,
  interpret: bool = False,
) -> Array:
  """attention.attend for one query a row, over the first length_B columns of
  the cache, or the last `window` of these (0: all of them).

  The kernel goes through the cache in blocks of columns. A block without a
  visible column has the index of its neighbour, so that nothing is read for it:
  the bytes that are read are those of the filled blocks.
  """
  from jax.experimental.pallas import tpu as pltpu

  B, _, K, G, C = q_B1KGC.shape
  S, dtype = cache_BKSC[0].shape[2], cache_BKSC[0].dtype
  M = -(-G // SUBLANES) * SUBLANES
  q_BKMC = jnp.pad(q_B1KGC[:, 0], ((0, 0), (0, 0), (0, M - G), (0, 0)))
  sink_KM = jnp.full((K, M), MASKED_SCORE, jnp.float32)
  if sink_KG is not None:
    sink_KM = sink_KM.at[:, :G].set(sink_KG)
  block = block_columns(K, S, C, dtype.itemsize)
  steps = pl.cdiv(S, block)
  # See attention.in_cache_layout: this is no copy.
  is_swapped = bool(C % TILE)
  if is_swapped:
    keys, values = cache_BKSC
    cache_BKSC = keys.swapaxes(2, 3), values.swapaxes(2, 3)

  def block_index(b, n, length_B):
    first, last = _visible_blocks(length_B[b], window, block)
    n = jnp.clip(n, first, last)
    return (b, 0, 0, n) if is_swapped else (b, 0, n, 0)

  shape = (None, K, C, block) if is_swapped else (None, K, block, C)
  cache_spec = pl.BlockSpec(shape, block_index)
  row_spec = pl.BlockSpec((None, K, M, C), lambda b, n, length_B: (b, 0, 0, 0))
  sink_spec = pl.BlockSpec((K, M, TILE), lambda b, n, length_B: (0, 0, 0))
  kernel = functools.partial(_kernel, form, window, block, S, is_swapped)
  out_BKMC = pl.pallas_call(
    kernel,
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=1,
      grid=(B, steps),
      in_specs=[row_spec, sink_spec, cache_spec, cache_spec],
      out_specs=row_spec,
      scratch_shapes=[
        pltpu.VMEM((K, M, C), jnp.float32),
        pltpu.VMEM((K, M, TILE), jnp.float32),
        pltpu.VMEM((K, M, TILE), jnp.float32),
      ],
    ),
    out_shape=jax.ShapeDtypeStruct((B, K, M, C), jnp.float32),
    cost_estimate=pl.CostEstimate(
      flops=4 * B * K * M * S * C,
      bytes_accessed=2 * cache_BKSC[0].size * dtype.itemsize,
      transcendentals=B * K * M * S,
    ),
    interpret=interpret,
    name='attend_filled',
  )(length_B, q_BKMC, _in_lanes(sink_KM), *cache_BKSC)
  return out_BKMC[:, None, :, :G]


def _in_lanes(x_KM):
  """[K, M, TILE] with the same number in all lanes."""
  return jnp.broadcast_to(x_KM[..., None], (*x_KM.shape, TILE))


def block_columns(heads: int, length: int, channels: int, itemsize: int) -> int:
  """The columns of a block: whole tiles, about BLOCK_BYTES of keys."""
  tiles = max(1, BLOCK_BYTES // (heads * channels * itemsize * TILE))
  return min(tiles, pl.cdiv(length, TILE)) * TILE


def _visible_blocks(length, window, block):
  """(first, last) of the blocks with visible columns."""
  first = jnp.maximum(length - window, 0) // block if window else 0
  return first, (length - 1) // block


def _kernel(
  form,
  window,
  block,
  S,
  is_swapped,
  length_ref,
  q_ref,
  sink_ref,
  k_ref,
  v_ref,
  out_ref,
  sum_v_ref,
  max_ref,
  sum_ref,
):
  """Adds a block of columns to the sums of exp(score - max) v and of exps, which
  begin with the sink, a score without a value."""
  n, length = pl.program_id(1), length_ref[pl.program_id(0)]
  first, last = _visible_blocks(length, window, block)

  @pl.when(n == 0)
  def start():
    sum_v_ref[...] = jnp.zeros_like(sum_v_ref)
    max_ref[...] = sink_ref[...]
    sum_ref[...] = jnp.ones_like(sum_ref)

  @pl.when((n >= first) & (n <= last))
  def add_block():
    M = q_ref.shape[1]
    column_MS = n * block + jax.lax.broadcasted_iota(jnp.int32, (M, block), 1)
    visible_MS = column_MS < length
    if window:
      visible_MS &= column_MS >= length - window
    # Behind the end of the array a block has any numbers, also NaNs.
    shape = k_ref.shape[1:]
    column = n * block + jax.lax.broadcasted_iota(
      jnp.int32, shape, 1 if is_swapped else 0
    )
    for head in range(q_ref.shape[0]):
      k, v = k_ref[head], jnp.where(column < S, v_ref[head], 0)
      score_MS = _product(q_ref[head], k, 0 if is_swapped else 1) * form.scale
      if form.softcap:
        score_MS = form.softcap * jnp.tanh(score_MS / form.softcap)
      score_MS = jnp.where(visible_MS, score_MS, MASKED_SCORE)
      old_max_M1 = max_ref[head, :, :1]
      max_M1 = jnp.maximum(old_max_M1, jnp.max(score_MS, axis=1, keepdims=True))
      factor_M1 = jnp.exp(old_max_M1 - max_M1)
      exp_MS = jnp.where(visible_MS, jnp.exp(score_MS - max_M1), 0)
      own_sum_M1 = jnp.sum(exp_MS, axis=1, keepdims=True)
      sum_M1 = factor_M1 * sum_ref[head, :, :1] + own_sum_M1
      own_MC = _product(exp_MS.astype(v.dtype), v, 1 if is_swapped else 0)
      sum_v_ref[head] = factor_M1 * sum_v_ref[head] + own_MC
      max_ref[head] = jnp.broadcast_to(max_M1, max_ref.shape[1:])
      sum_ref[head] = jnp.broadcast_to(sum_M1, sum_ref.shape[1:])

  @pl.when(n == pl.num_programs(1) - 1)
  def finish():
    out_ref[...] = sum_v_ref[...] / sum_ref[:, :, :1]


def _product(a, b, axis):
  """a[M, X] times b along b's axis, in float32."""
  return jax.lax.dot_general(
    a,
    b,
    (((1,), (axis,)), ((), ())),
    linear.precision(a),
    preferred_element_type=jnp.float32,
  )
