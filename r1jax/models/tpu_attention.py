"""Attention on TPUs over a call's own keys, by a Pallas kernel of jax."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import sequence_packing
from r1jax.models.attention import TILE, Form, KeysValues

# From this row length on the fused backward kernel needs too much memory.
FUSED_BACKWARD_LIMIT = 16384


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
