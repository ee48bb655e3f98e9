"""Attention on TPUs while decoding: a Pallas kernel that reads only the filled
part of each row's cache."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl

from r1jax.models import attention, linear, paging
from r1jax.models.attention import MASKED_SCORE, TILE, CachedLayer, Form

BLOCK_BYTES = 1 << 20  # of the keys that the kernel reads at a time
MAX_PAGES = 8  # that it reads at a time
SUBLANES = 16  # rows of a tile in bfloat16
NO_WINDOW = 2**31 - 1


def attend_filled(
  form: Form,
  q_BTKGC: Array,
  cached: CachedLayer,
  pos_B: Array,
  length_B: Array,
  window: Array | int | None,
  value_channels: int,
  interpret: bool = False,
) -> tuple[Array, Array]:
  """attention.attend_with_lse of the queries at pos_B, pos_B + 1, ... over the
  first length_B columns of a layer's cache. Without visible columns out is 0
  and the log sum MASKED_SCORE.

  The kernel goes through the cache in blocks of columns. A block without a
  visible column has the index of its neighbour, so that nothing is read for it:
  the bytes that are read are those of the filled blocks. If the cache is in
  pages, a block is several of them: each has an operand of its own.
  """
  from jax.experimental.pallas import tpu as pltpu

  T, arrays = q_BTKGC.shape[1], cached.arrays
  q_BKMC = attention.merge_queries(q_BTKGC)
  B, K, queries, C = q_BKMC.shape
  M = -(-queries // SUBLANES) * SUBLANES
  q_BKMC = jnp.pad(q_BKMC, ((0, 0), (0, 0), (0, M - queries), (0, 0)))
  S, table_BN = paging.columns(arrays[0]), jnp.zeros((1, 1), jnp.int32)
  is_paged = isinstance(arrays[0], paging.Pages)
  if isinstance(arrays[0], paging.Pages):
    table_BN, arrays = arrays[0].table_BN[0], paging.pool(arrays)
  itemsize = arrays[0].dtype.itemsize
  block = size = block_columns(K, S, C, itemsize)
  if is_paged:
    size = arrays[0].shape[3]
    block = size * max(1, min(block // size, MAX_PAGES, S // size))
  # See attention.in_cache_layout: this is no copy.
  is_swapped = bool(C % TILE)
  if is_swapped:
    arrays = tuple(a.swapaxes(3, 4) for a in arrays)
  window = NO_WINDOW if window is None else window
  number_and_window = jnp.stack([jnp.int32(cached.number), jnp.int32(window)])

  def cache_block(part, b, n, pos_B, length_B, number_and_window, table_BN):
    number, window = number_and_window[0], number_and_window[1]
    first, last = visible_blocks(pos_B[b], length_B[b], window, block)
    n = jnp.clip(n, first, last)
    if is_paged:
      page = n * parts + part
      # Behind the last page this part keeps the one that it has.
      is_seen = page * size < length_B[b]
      page = jnp.where(is_seen, page, jnp.maximum(page - parts, part))
      b, n = table_BN[b, page], 0
    return (number, b, 0, 0, n) if is_swapped else (number, b, 0, n, 0)

  def row_block(b, n, *_):
    return b, 0, 0, 0

  parts = block // size
  shape = (K, C, size) if is_swapped else (K, size, C)
  cache_specs = [
    pl.BlockSpec((None, None, *shape), functools.partial(cache_block, part))
    for part in range(parts)
  ]
  scalars = pos_B, length_B, number_and_window, table_BN
  out_BKMC, lse_BKM1 = pl.pallas_call(
    functools.partial(_kernel, form, T, size, parts, is_swapped),
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=len(scalars),
      grid=(B, pl.cdiv(S, block)),
      in_specs=[
        pl.BlockSpec((None, K, M, C), row_block),
        *cache_specs * len(arrays),
      ],
      out_specs=[
        pl.BlockSpec((None, K, M, value_channels), row_block),
        pl.BlockSpec((None, K, M, 1), row_block),
      ],
      scratch_shapes=[
        pltpu.VMEM((K, M, TILE), jnp.float32),
        pltpu.VMEM((K, M, TILE), jnp.float32),
      ],
    ),
    out_shape=[
      jax.ShapeDtypeStruct((B, K, M, value_channels), jnp.float32),
      jax.ShapeDtypeStruct((B, K, M, 1), jnp.float32),
    ],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=('parallel', 'arbitrary')
    ),
    cost_estimate=pl.CostEstimate(
      flops=2 * B * K * M * S * (C + value_channels),
      bytes_accessed=len(arrays) * B * K * S * C * itemsize,
      transcendentals=B * K * M * S,
    ),
    interpret=interpret,
    name='attend_filled',
  )(*scalars, q_BKMC, *(a for a in arrays for _ in range(parts)))
  out_BTKGC, lse_BTKG1 = (
    attention.split_queries(x[:, :, :queries], T) for x in (out_BKMC, lse_BKM1)
  )
  return out_BTKGC, lse_BTKG1[..., 0]


def block_columns(heads: int, length: int, channels: int, itemsize: int) -> int:
  """The columns of a block: whole tiles, about BLOCK_BYTES of keys."""
  tiles = max(1, BLOCK_BYTES // (heads * channels * itemsize * TILE))
  return min(tiles, pl.cdiv(length, TILE)) * TILE


def visible_blocks(
  pos: Array, length: Array, window: Array, block: int
) -> tuple[Array, Array]:
  """(first, last) of the blocks of a row with columns that its queries from
  `pos` on see; there may be none."""
  first = jnp.maximum(pos - window + 1, 0) // block
  return first, jnp.maximum(length - 1, 0) // block


def _kernel(
  form,
  T,
  size,
  parts,
  is_swapped,
  pos_ref,
  length_ref,
  number_and_window_ref,
  table_ref,
  q_ref,
  *refs,
):
  """Adds a block of columns to the sums of exp(score - max) v and of exps."""
  *cache_refs, out_ref, lse_ref, max_ref, sum_ref = refs
  b, n, window = pl.program_id(0), pl.program_id(1), number_and_window_ref[1]
  pos, length = pos_ref[b], length_ref[b]
  sums = out_ref, max_ref, sum_ref

  @pl.when(n == 0)
  def start():
    out_ref[...] = jnp.zeros_like(out_ref)
    max_ref[...] = jnp.full_like(max_ref, MASKED_SCORE)
    sum_ref[...] = jnp.zeros_like(sum_ref)

  for part in range(parts):
    begin = (n * parts + part) * size
    is_visible = (begin < length) & (begin + size > pos - window + 1)
    add = functools.partial(
      _add_columns, form, T, is_swapped, begin, (pos, length, window)
    )
    # The values are the first channels of the last of the cache's arrays.
    kv_refs = cache_refs[part], cache_refs[part - parts]
    pl.when(is_visible)(functools.partial(add, q_ref, *kv_refs, *sums))

  @pl.when(n == pl.num_programs(1) - 1)
  def finish():
    sum_KM1 = sum_ref[:, :, :1]
    # A query without visible columns has no sum.
    sum_KM1 = jnp.where(sum_KM1 == 0, 1, sum_KM1)
    out_ref[...] = out_ref[...] / sum_KM1
    lse_ref[...] = max_ref[:, :, :1] + jnp.log(sum_KM1)


def _add_columns(
  form,
  T,
  is_swapped,
  begin,
  row,
  q_ref,
  k_ref,
  v_ref,
  out_ref,
  max_ref,
  sum_ref,
):
  """Adds the columns of a row from `begin` on."""
  pos, length, window = row
  K, M, value_channels = out_ref.shape
  size = k_ref.shape[2 if is_swapped else 1]
  column_MS = begin + jax.lax.broadcasted_iota(jnp.int32, (M, size), 1)
  query_MS = jax.lax.broadcasted_iota(jnp.int32, (M, size), 0)
  pos_MS = pos + jax.lax.rem(query_MS, T) if T > 1 else pos
  visible_MS = (column_MS < length) & (column_MS <= pos_MS)
  visible_MS &= pos_MS - column_MS < window
  channels = pl.ds(0, value_channels)
  v_here = (channels, slice(None)) if is_swapped else (slice(None), channels)
  # Behind the end of the array a block has any numbers, also NaNs.
  shape = (value_channels, size) if is_swapped else (size, value_channels)
  column = begin + jax.lax.broadcasted_iota(
    jnp.int32, shape, 1 if is_swapped else 0
  )
  for head in range(K):
    k = k_ref[head]
    v = jnp.where(column < length, v_ref[head, *v_here], 0)
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
    out_ref[head] = factor_M1 * out_ref[head] + own_MC
    max_ref[head] = jnp.broadcast_to(max_M1, max_ref.shape[1:])
    sum_ref[head] = jnp.broadcast_to(sum_M1, sum_ref.shape[1:])


def _product(a, b, axis):
  """a[M, X] times b along b's axis, in float32."""
  return jax.lax.dot_general(
    a,
    b,
    (((1,), (axis,)), ((), ())),
    linear.precision(a),
    preferred_element_type=jnp.float32,
  )
