"""Attention of packed rows (packing.py): a key is visible to the tokens of the
same response, and a prompt's key to all responses too."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from r1jax.models import attention, packing
from r1jax.models.attention import Form, KeysValues
from r1jax.models.packing import Packing


def attend(
  packed: Packing,
  form: Form,
  q_BTKGC: Array,
  kv_BKTC: KeysValues,
  pos_BT: Array,
  window: Array | int | None = None,
  sink_KG: Array | None = None,
) -> Array:
  """attention.attend over the call's own keys. No score of a response with
  another is computed."""
  width, responses = packed.width, packed.responses
  k_BKTC, v_BKTC = kv_BKTC
  prompt_kv = k_BKTC[:, :, :width], v_BKTC[:, :, :width]
  prompt_pos, pos = pos_BT[:, :width], pos_BT[:, width:]
  visible = attention.visible(prompt_pos, prompt_pos, window)
  prompt_out = attention.attend(
    form, q_BTKGC[:, :width], prompt_kv, visible, sink_KG
  )

  q = q_BTKGC[:, width:]
  visible = attention.visible(pos, prompt_pos, window)
  of_prompt = attention.attend_with_lse(form, q, prompt_kv, visible)

  own_k, own_v = (
    _split_keys(responses, a[:, :, width:]) for a in (k_BKTC, v_BKTC)
  )
  own_pos = _split(responses, pos)
  visible = attention.visible(own_pos, own_pos, window)
  own, own_lse = attention.attend_with_lse(
    form, _split(responses, q), (own_k, own_v), visible
  )
  of_response = own.reshape(of_prompt[0].shape), own_lse.reshape(q.shape[:-1])
  out, lse = attention.merge(of_prompt, of_response)
  out = attention.with_sink(out, lse, sink_KG)
  return jnp.concatenate([prompt_out, out], axis=1)


def _split(responses, x):
  """[B, G T, ...] as [B G, T, ...]."""
  B, T = x.shape[:2]
  return x.reshape(B * responses, T // responses, *x.shape[2:])


def _split_keys(responses, a_BKTC):
  """[B, K, G T, C] as [B G, K, T, C]."""
  return _split(responses, a_BKTC.swapaxes(1, 2)).swapaxes(1, 2)


def attend_rows(
  packed: Packing,
  kernel: Callable[[Array, KeysValues, Array], Array],
  q_BTKGC: Array,
  kv_BKTC: KeysValues,
  pos_BT: Array,
) -> Array:
  """attention by a kernel that knows no packed rows: (q, kv, positions) of rows
  with a copy of their prompt -> out_BTKGC."""
  length_B = packing.prompt_length(packed, pos_BT)
  q = packing.unpack(packed, q_BTKGC, length_B)
  k, v = (
    packing.unpack(packed, a.swapaxes(1, 2), length_B).swapaxes(1, 2)
    for a in kv_BKTC
  )
  pos = packing.unpack_positions(packed, pos_BT, length_B)
  return packing.pack(packed, kernel(q, (k, v), pos), length_B)
