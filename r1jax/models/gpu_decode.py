"""Attention on GPUs while decoding: a Pallas kernel (Triton) that reads only the
filled part of each row's cache."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl

from r1jax.models import attention, paging
from r1jax.models.attention import MASKED_SCORE, CachedLayer, Form

# Columns of the cache that the kernel reads at a time: with three stages of loads
# they fit into the shared memory of any GPU since Ampere.
BLOCK, WIDE_BLOCK, LATENT_BLOCK = 64, 32, 16
WIDE_CHANNELS = 256  # of a head, from which it is WIDE_BLOCK
LATENT_CHANNELS = 512  # from which it is LATENT_BLOCK
MAX_ELEMENTS = 2**31 - 1  # of a layer's keys: Triton has 32-bit offsets
MIN_QUERIES = 16  # rows of a product of Triton
MAX_QUERIES = 32  # rows of a program, whose sums are in registers
PROGRAMS = 528  # some for each of 132 multiprocessors


def has_kernel(channels: int, value_channels: int) -> bool:
  """Whether attend_filled takes keys and values of these widths: arrays of Triton
  have sizes that are powers of two."""
  return all(
    part >= 16 and part & (part - 1) == 0
    for part in _parts(channels, value_channels)
  )


def has_offsets(arrays: tuple[Array, ...]) -> bool:
  """Whether attend_filled can address a layer's part of the cache."""
  return jax.tree.leaves(arrays)[0].size <= MAX_ELEMENTS


def _parts(channels, value_channels):
  """The widths of the parts of a key that are read one by one. If keys and values
  are one array, the first are the values."""
  rest = channels - value_channels
  return (value_channels, rest) if rest else (channels,)


def attend_filled(
  form: Form,
  q_BTKGC: Array,
  cached: CachedLayer,
  pos_B: Array,
  length_B: Array,
  window: int | None,
  value_channels: int,
  interpret: bool = False,
) -> tuple[Array, Array]:
  """attention.attend_with_lse of the queries at pos_B, pos_B + 1, ... over the
  first length_B columns of a layer's cache, which is not of several layers. Pages
  of a cache must be whole blocks.

  A program of the kernel attends over some of a row's columns with queries of
  one key head; the results of a row's programs are merged by their maxima and
  sums, as in flash decoding.
  """
  from jax.experimental.pallas import triton as plgpu

  arrays = jax.tree.map(lambda a: a.reshape(a.shape[1:]), cached.arrays)
  S, V = paging.columns(arrays[0]), value_channels
  q_BKMC = attention.merge_queries(q_BTKGC)
  B, K, queries, C = q_BKMC.shape
  T = q_BTKGC.shape[1]
  rows = min(MAX_QUERIES, max(MIN_QUERIES, pl.next_power_of_2(queries)))
  tiles = pl.cdiv(queries, rows)
  M = rows * tiles
  q_BKMC = jnp.pad(q_BKMC, ((0, 0), (0, 0), (0, M - queries), (0, 0)))
  block, warps = BLOCK if C < WIDE_CHANNELS else WIDE_BLOCK, 4
  if C >= LATENT_CHANNELS:
    block, warps = LATENT_BLOCK, 8
  blocks, programs = pl.cdiv(S, block), B * K * tiles
  columns = block * pl.cdiv(blocks, min(blocks, pl.cdiv(PROGRAMS, programs)))
  splits = pl.cdiv(S, columns)

  def index(*last):
    """Of a block of programs (row, key head and tile of queries, split)."""
    return lambda b, k, n: (b, k // tiles, *last)

  one = pl.BlockSpec((None,), lambda b, k, n: (b,))
  row = pl.BlockSpec(
    (None, None, rows, C), lambda b, k, n: (b, k // tiles, k % tiles, 0)
  )
  is_paged = isinstance(arrays[0], paging.Pages)
  if is_paged:
    table_BN, pool = arrays[0].table_BN, paging.pool(arrays)
    arrays = table_BN, *pool
    cache_specs = [
      pl.BlockSpec((None, table_BN.shape[1]), lambda b, k, n: (b, 0))
    ]
    cache_specs += [
      pl.BlockSpec(
        (a.shape[0], None, *a.shape[2:]), lambda b, k, n: (0, k // tiles, 0, 0)
      )
      for a in pool
    ]
  else:
    cache_specs = [
      pl.BlockSpec((None, None, S, a.shape[-1]), index(0, 0)) for a in arrays
    ]
  out = pl.BlockSpec(
    (None, None, None, rows, V),
    lambda b, k, n: (b, k // tiles, n, k % tiles, 0),
  )
  stat = pl.BlockSpec(
    (None, None, None, rows), lambda b, k, n: (b, k // tiles, n, k % tiles)
  )
  out_BKNMC, max_BKNM, sum_BKNM = pl.pallas_call(
    functools.partial(
      _kernel, form, window, T, columns, block, (C, V), is_paged
    ),
    grid=(B, K * tiles, splits),
    in_specs=[one, one, row, *cache_specs],
    out_specs=[out, stat, stat],
    out_shape=[
      jax.ShapeDtypeStruct((B, K, splits, M, V), jnp.float32),
      jax.ShapeDtypeStruct((B, K, splits, M), jnp.float32),
      jax.ShapeDtypeStruct((B, K, splits, M), jnp.float32),
    ],
    compiler_params=plgpu.CompilerParams(num_warps=warps, num_stages=3),
    interpret=interpret,
    name='attend_filled',
  )(pos_B, length_B, q_BKMC, *arrays)
  max_BK1M = jnp.max(max_BKNM, axis=2, keepdims=True)
  weight_BKNM = jnp.exp(max_BKNM - max_BK1M)
  total_BKM = jnp.sum(weight_BKNM * sum_BKNM, axis=2)
  # A query without visible columns has no sum.
  total_BKM = jnp.where(total_BKM == 0, 1, total_BKM)
  out_BKMC = jnp.sum(weight_BKNM[..., None] * out_BKNMC, axis=2)
  out_BKMC /= total_BKM[..., None]
  lse_BKM = max_BK1M[:, :, 0] + jnp.log(total_BKM)
  out_BTKGC = attention.split_queries(out_BKMC[:, :, :queries], T)
  lse_BTKG1 = attention.split_queries(lse_BKM[:, :, :queries, None], T)
  return out_BTKGC, lse_BTKG1[..., 0]


def _kernel(
  form,
  window,
  T,
  columns,
  block_size,
  widths,
  is_paged,
  pos_ref,
  length_ref,
  q_ref,
  *refs,
):
  """Writes the sum of exp(score - max) v, the max and the sum of the exps, of a
  row's columns in this program's part."""
  from jax.experimental.pallas import triton as plgpu

  *cache_refs, out_ref, max_ref, sum_ref = refs
  table_ref = cache_refs.pop(0) if is_paged else None
  k_ref, M = cache_refs[0], len(q_ref)
  parts, q_parts, start = _parts(*widths), [], 0
  for part in parts:
    q_parts.append(plgpu.load(q_ref.at[:, pl.ds(start, part)]))
    start += part
  pos, length = pos_ref[()], length_ref[()]
  pos_M = pos + jnp.arange(M) % T if T > 1 else jnp.full(M, pos)
  first = pl.program_id(2) * columns
  begin = first
  if window is not None:
    begin = jnp.maximum(first, pos - window + 1)
  end = jnp.minimum(first + columns, length)

  def load(ref, block, start, part):
    first, channels = block * block_size, pl.ds(start, part)
    if is_paged:
      page = ref.shape[1]
      number = plgpu.load(table_ref.at[first // page])
      here = number, pl.ds(first % page, block_size), channels
      return plgpu.load(ref.at[*here])
    column_S = first + jnp.arange(block_size)
    here = pl.ds(first, block_size), channels
    mask = (column_S < len(ref))[:, None]
    return plgpu.load(ref.at[*here], mask=mask, other=0)

  def add_block(block, carry):
    out_MC, max_M, sum_M = carry
    column_S = block * block_size + jnp.arange(block_size)
    k_parts, start, score_MS = [], 0, 0.0
    for q_MC, part in zip(q_parts, parts):
      k_parts.append(load(k_ref, block, start, part))
      score_MS += plgpu.dot(q_MC, k_parts[-1].T)
      start += part
    v_SC = k_parts[0]
    if len(cache_refs) == 2:
      v_SC = load(cache_refs[1], block, 0, widths[1])
    score_MS *= form.scale
    if form.softcap:
      score_MS = form.softcap * jnp.tanh(score_MS / form.softcap)
    visible_MS = column_S[None] <= pos_M[:, None]
    visible_MS &= column_S[None] < length
    if window is not None:
      visible_MS &= pos_M[:, None] - column_S[None] < window
    score_MS = jnp.where(visible_MS, score_MS, MASKED_SCORE)
    new_max_M = jnp.maximum(max_M, jnp.max(score_MS, axis=1))
    factor_M = jnp.exp(max_M - new_max_M)
    exp_MS = jnp.exp(score_MS - new_max_M[:, None])
    exp_MS = jnp.where(visible_MS, exp_MS, 0)
    sum_M = factor_M * sum_M + jnp.sum(exp_MS, axis=1)
    out_MC *= factor_M[:, None]
    out_MC += plgpu.dot(exp_MS.astype(v_SC.dtype), v_SC)
    return out_MC, new_max_M, sum_M

  empty = (
    jnp.zeros((M, widths[1]), jnp.float32),
    jnp.full(M, MASKED_SCORE, jnp.float32),
    jnp.zeros(M, jnp.float32),
  )
  results = jax.lax.fori_loop(
    begin // block_size, pl.cdiv(end, block_size), add_block, empty
  )
  for ref, result in zip((out_ref, max_ref, sum_ref), results):
    ref[...] = result
