"""Rows one after another in packed rows, as data/sequences.py lays them out.

Positions begin at 0 in each row. A row that shares its prompt with another before
it continues from the prompt's last token, which it repeats: its first position is
above 0 and does not follow the one before. So positions say which keys are
visible, and all parts of a model but attention need not know.
"""

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import attention
from r1jax.models.model_config import ModelConfig


def pack(rows_BL: Array, source_PT: Array, empty: int = 0) -> Array:
  """Packed rows [P, T, ...] of an array [B, L, ...]: token source // L, source % L
  of the rows, `empty` where source is -1."""
  return _take(rows_BL, source_PT, empty)


def pack_sequences(
  tokens_BL: Array, pos_BL: Array, source_PT: Array
) -> tuple[Array, Array]:
  """(tokens_PT, pos_PT) of packed rows."""
  tokens_PT = pack(tokens_BL, source_PT)
  return tokens_PT, pack(pos_BL, source_PT, empty=-1)


def unpack(packed_PT: Array, place_BL: Array) -> Array:
  """Rows [B, L, ...] of packed rows, 0 where place is -1."""
  return _take(packed_PT, place_BL, 0)


def _take(x, index, empty):
  flat = x.reshape(-1, *x.shape[2:])
  exists = jnp.expand_dims(index >= 0, tuple(range(2, x.ndim)))
  return jnp.where(exists, flat[jnp.maximum(index, 0)], empty)


def sequence_numbers(pos_BT: Array) -> Array:
  """1, 2, ... for the tokens of a packed row's first, second, ... sequence, 0 for
  padding. Rows that share a prompt are one sequence."""
  number_BT = jnp.cumsum(pos_BT == 0, axis=1, dtype=jnp.int32)
  # A row whose positions do not begin at 0 is one sequence too.
  return jnp.where(pos_BT >= 0, jnp.maximum(number_BT, 1), 0)


def visible(
  cfg: ModelConfig, pos_BT: Array, window: Array | int | None = None
) -> Array:
  """visible_BTT: whether a token sees another of the same call."""
  if cfg.sequence_packing:
    return visible_keys(pos_BT, window)
  return attention.visible(pos_BT, pos_BT, window)


def visible_keys(pos_BT: Array, window: Array | int | None = None) -> Array:
  """`visible` in packed rows: keys of the same row and of its prompt."""
  before_BT = jnp.pad(pos_BT[:, :-1], ((0, 0), (1, 0)), constant_values=-2)
  starts_BT = pos_BT != before_BT + 1
  column_1T = jnp.arange(pos_BT.shape[1])[None]
  start_BT = jax.lax.cummax(jnp.where(starts_BT, column_1T, 0), axis=1)
  # Of the prompt, a row shares the positions before its first.
  first_BT = jnp.take_along_axis(pos_BT, start_BT, axis=1)
  number_BT = sequence_numbers(pos_BT)
  same_sequence = number_BT[:, :, None] == number_BT[:, None, :]
  same_row = start_BT[:, :, None] == start_BT[:, None, :]
  of_prompt = pos_BT[:, None, :] < first_BT[:, :, None]
  visible_BTT = attention.visible(pos_BT, pos_BT, window)
  return visible_BTT & same_sequence & (same_row | of_prompt)
