"""Attention on GPUs over a call's own keys: cuDNN's flash attention, which does
not write the scores to memory."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import sequence_packing
from r1jax.models.attention import Form, KeysValues

MIN_CAPABILITY = 8.0  # of the GPU, for cuDNN's kernel: Ampere and later


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
