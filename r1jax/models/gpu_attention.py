"""Attention on GPUs: cuDNN's flash attention over a call's own keys, and a
Pallas kernel (Triton) for decoding, which reads only the filled part of each
row's cache. Neither writes the scores to memory."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl

from r1jax.models import attention, sequence_packing
from r1jax.models.attention import MASKED_SCORE, Form, KeysValues

MIN_CAPABILITY = 8.0  # of the GPU, for cuDNN's kernel: Ampere and later
# Columns of the cache that the decode kernel reads at a time: with three stages
# of loads they fit into the shared memory of any GPU since Ampere.
BLOCK, WIDE_BLOCK = 64, 32
WIDE_CHANNELS = 256  # of a head, from which it is WIDE_BLOCK
MAX_ELEMENTS = 2**31 - 1  # of a layer's keys: Triton has 32-bit offsets
MIN_QUERIES = 16  # rows of a product of Triton
PROGRAMS = 528  # of the decode kernel: some for each of 132 multiprocessors


def obstacle(cfg: Any, capability: float) -> str:
  """Why cuDNN's kernel cannot compute the attention of a model on a GPU of this
  compute capability, in words; '' if it can."""
  if capability < MIN_CAPABILITY:
    return f'the GPU has compute capability {capability}, below 8.0'
  if cfg.dtype != 'bfloat16':
    return f'config.compute.dtype is {cfg.dtype}, not bfloat16'
  if cfg.form.softcap:
    return 'the scores of the model are capped'
  if cfg.has_sinks:
    return 'the model has attention sinks'
  most = 256 if capability >= 9 else 128
  channels = cfg.qk_head_dim
  if channels % 8 or channels > most:
    return f'heads have {channels} channels, not a multiple of 8 up to {most}'
  return ''


def flash(
  form: Form,
  q_BTKGC: Array,
  kv_BKTC: KeysValues,
  pos_BT: Array,
  window: int = 0,
  sink_KG: Array | None = None,
) -> Array:
  """attention.attend over the call's own keys, in bfloat16, by cuDNN. The
  padding of a row is at its end. window 0: none."""
  assert sink_KG is None, 'see obstacle'
  B, T, K, G, C = q_BTKGC.shape
  k_BTKC, v_BTKC = (a.swapaxes(1, 2) for a in kv_BKTC)
  value_channels = v_BTKC.shape[-1]
  fill = C - value_channels
  v_BTKC = jnp.pad(v_BTKC, ((0, 0), (0, 0), (0, 0), (0, fill)))
  length_B = jnp.maximum(jnp.sum(pos_BT >= 0, axis=1, dtype=jnp.int32), 1)
  out_BTHC = jax.nn.dot_product_attention(
    q_BTKGC.reshape(B, T, K * G, C),
    k_BTKC,
    v_BTKC,
    scale=form.scale,
    is_causal=True,
    query_seq_lengths=length_B,
    key_value_seq_lengths=length_B,
    local_window_size=(window - 1, 0) if window else None,
    implementation='cudnn',
  )
  return out_BTHC[..., :value_channels].reshape(B, T, K, G, value_channels)


def flash_packed(
  form: Form,
  q_BTKGC: Array,
  kv_BKTC: KeysValues,
  pos_BT: Array,
  window: int = 0,
  sink_KG: Array | None = None,
) -> Array:
  """`flash` of rows with several sequences (sequence_packing.py), by a mask of
  the visible keys, [B, T, T]. The scores are not written to memory."""
  assert sink_KG is None, 'see obstacle'
  B, T, K, G, C = q_BTKGC.shape
  visible_BTT = sequence_packing.visible_keys(pos_BT, window or None)
  # cuDNN takes a mask only for an even number of columns.
  q_BTHC = _pad_to_even(q_BTKGC.reshape(B, T, K * G, C), 1)
  k_BTKC, v_BTKC = (_pad_to_even(a.swapaxes(1, 2), 1) for a in kv_BKTC)
  mask_BTT = _pad_to_even(_pad_to_even(visible_BTT, 1), 2)
  value_channels = v_BTKC.shape[-1]
  fill = C - value_channels
  out_BTHC = jax.nn.dot_product_attention(
    q_BTHC,
    k_BTKC,
    jnp.pad(v_BTKC, ((0, 0), (0, 0), (0, 0), (0, fill))),
    mask=mask_BTT[:, None],
    scale=form.scale,
    is_causal=True,
    implementation='cudnn',
  )
  out_BTHC = out_BTHC[:, :T, :, :value_channels]
  return out_BTHC.reshape(B, T, K, G, value_channels)


def _pad_to_even(a, axis):
  widths = [(0, a.shape[n] % 2 if n == axis else 0) for n in range(a.ndim)]
  return jnp.pad(a, widths)


def has_decode_kernel(channels: int) -> bool:
  """Whether attend_filled takes heads of this many channels: arrays of Triton
  have sizes that are powers of two."""
  return channels >= 16 and channels & (channels - 1) == 0


def has_decode_offsets(cache_BKSC: KeysValues) -> bool:
  """Whether attend_filled can address this cache."""
  return cache_BKSC[0].size <= MAX_ELEMENTS


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

  A program of the kernel attends over some of a row's columns with the queries
  of one key head; the results of a row's programs are merged by their maxima
  and sums, as in flash decoding.
  """
  from jax.experimental.pallas import triton as plgpu

  B, _, K, G, C = q_B1KGC.shape
  S = cache_BKSC[0].shape[2]
  M = max(MIN_QUERIES, pl.next_power_of_2(G))
  q_BKMC = jnp.pad(q_B1KGC[:, 0], ((0, 0), (0, 0), (0, M - G), (0, 0)))
  block_size = BLOCK if C < WIDE_CHANNELS else WIDE_BLOCK
  blocks = pl.cdiv(S, block_size)
  columns = block_size * pl.cdiv(blocks, min(blocks, pl.cdiv(PROGRAMS, B * K)))
  splits = pl.cdiv(S, columns)
  row = pl.BlockSpec((None, None, M, C), lambda b, k, n: (b, k, 0, 0))
  cache = pl.BlockSpec((None, None, S, C), lambda b, k, n: (b, k, 0, 0))
  out = pl.BlockSpec((None, None, None, M, C), lambda b, k, n: (b, k, n, 0, 0))
  stat = pl.BlockSpec((None, None, None, M), lambda b, k, n: (b, k, n, 0))
  out_BKNMC, max_BKNM, sum_BKNM = pl.pallas_call(
    functools.partial(_kernel, form, window, columns, block_size),
    grid=(B, K, splits),
    in_specs=[pl.BlockSpec((None,), lambda b, k, n: (b,)), row, cache, cache],
    out_specs=[out, stat, stat],
    out_shape=[
      jax.ShapeDtypeStruct((B, K, splits, M, C), jnp.float32),
      jax.ShapeDtypeStruct((B, K, splits, M), jnp.float32),
      jax.ShapeDtypeStruct((B, K, splits, M), jnp.float32),
    ],
    compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=3),
    interpret=interpret,
    name='attend_filled',
  )(length_B, q_BKMC, *cache_BKSC)
  max_BK1M = jnp.max(max_BKNM, axis=2, keepdims=True)
  weight_BKNM = jnp.exp(max_BKNM - max_BK1M)
  total_BKM = jnp.sum(weight_BKNM * sum_BKNM, axis=2)
  out_BKMC = jnp.sum(weight_BKNM[..., None] * out_BKNMC, axis=2)
  out_BKMC /= total_BKM[..., None]
  lse_BKM = max_BK1M[:, :, 0] + jnp.log(total_BKM)
  result = out_BKMC[:, None, :, :G]
  return attention.with_sink(result, lse_BKM[:, None, :, :G], sink_KG)


def _kernel(
  form,
  window,
  columns,
  block_size,
  length_ref,
  q_ref,
  k_ref,
  v_ref,
  out_ref,
  max_ref,
  sum_ref,
):
  """Writes the sum of exp(score - max) v, the max and the sum of the exps, of a
  row's columns in this program's part."""
  from jax.experimental.pallas import triton as plgpu

  S, C = k_ref.shape
  q_MC, length = q_ref[...], length_ref[()]
  first = pl.program_id(2) * columns
  begin = jnp.maximum(first, length - window) if window else first
  end = jnp.minimum(first + columns, length)

  def add_block(block, carry):
    out_MC, max_M, sum_M = carry
    column_S = block * block_size + jnp.arange(block_size)
    here = pl.ds(block * block_size, block_size)
    exists = (column_S < S)[:, None]
    k_SC = plgpu.load(k_ref.at[here, :], mask=exists, other=0)
    v_SC = plgpu.load(v_ref.at[here, :], mask=exists, other=0)
    score_MS = plgpu.dot(q_MC, k_SC.T) * form.scale
    if form.softcap:
      score_MS = form.softcap * jnp.tanh(score_MS / form.softcap)
    visible_S = column_S < length
    if window:
      visible_S &= column_S >= length - window
    score_MS = jnp.where(visible_S[None], score_MS, MASKED_SCORE)
    new_max_M = jnp.maximum(max_M, jnp.max(score_MS, axis=1))
    factor_M = jnp.exp(max_M - new_max_M)
    exp_MS = jnp.exp(score_MS - new_max_M[:, None])
    exp_MS = jnp.where(visible_S[None], exp_MS, 0)
    sum_M = factor_M * sum_M + jnp.sum(exp_MS, axis=1)
    out_MC *= factor_M[:, None]
    out_MC += plgpu.dot(exp_MS.astype(v_SC.dtype), v_SC)
    return out_MC, new_max_M, sum_M

  M = len(q_ref)
  start = (
    jnp.zeros((M, C), jnp.float32),
    jnp.full(M, MASKED_SCORE, jnp.float32),
    jnp.zeros(M, jnp.float32),
  )
  results = jax.lax.fori_loop(
    begin // block_size, pl.cdiv(end, block_size), add_block, start
  )
  for ref, result in zip((out_ref, max_ref, sum_ref), results):
    ref[...] = result
