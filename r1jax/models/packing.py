"""Rows that have a prompt once, followed by several responses to it.

All parts of a model but attention treat tokens independently, so a packed row is
computed like any other: positions continue from the prompt in each response, and
attention (packed_attention.py) sees the keys of the prompt and of the same
response. Rows [B, L] hold a prompt and one response each; the B / G rows [P, T]
packed from them have T = width + G (L - width) columns.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Packing:
  """The form of packed rows. In a batch it is a static value: a program is
  compiled for each."""

  width: int  # columns of a prompt, at least as many as its tokens
  responses: int  # in a packed row, G: those of adjacent rows

  def response_width(self, columns: int) -> int:
    """The columns of a response in packed rows of so many columns."""
    return (columns - self.width) // self.responses


def prompt_length(packing: Packing, pos_PT: Array) -> Array:
  """The number of tokens of each packed row's prompt, [P]."""
  return jnp.sum(pos_PT[:, : packing.width] >= 0, axis=1, dtype=jnp.int32)


def pack(packing: Packing, rows_BL: Array, length_P: Array) -> Array:
  """Packed rows [P, T, ...] of an array [B, L, ...]: the prompts of the first of
  each G rows, and the responses of all, from their first tokens on."""
  B, L = rows_BL.shape[:2]
  G, rest = packing.responses, rows_BL.shape[2:]
  prompts = rows_BL.reshape(B // G, G, L, *rest)[:, 0, : packing.width]
  column_L = jnp.arange(L - packing.width)
  column_BL = jnp.repeat(length_P, G)[:, None] + column_L[None]
  responses = _take(rows_BL, column_BL).reshape(B // G, -1, *rest)
  return jnp.concatenate([prompts, responses], axis=1)


def pack_positions(packing: Packing, pos_BL: Array, length_P: Array) -> Array:
  """`pack` of positions, with -1 after the end of each prompt."""
  pos_PT = pack(packing, pos_BL, length_P)
  column_1T = jnp.arange(pos_PT.shape[1])[None]
  is_empty = (column_1T >= length_P[:, None]) & (column_1T < packing.width)
  return jnp.where(is_empty, -1, pos_PT)


def unpack(packing: Packing, packed_PT: Array, length_P: Array) -> Array:
  """The inverse of `pack`: [B, L, ...]. Padding has values of other tokens."""
  P, T = packed_PT.shape[:2]
  G, width = packing.responses, packing.response_width(T)
  column_11L = jnp.arange(packing.width + width)[None, None]
  length_P11 = length_P[:, None, None]
  in_response = jnp.clip(column_11L - length_P11, 0, width - 1)
  start_1G1 = packing.width + width * jnp.arange(G)[None, :, None]
  is_prompt = column_11L < length_P11
  column = jnp.where(is_prompt, column_11L, start_1G1 + in_response)
  rows = _take(packed_PT, column.reshape(P, -1))
  return rows.reshape(P * G, -1, *packed_PT.shape[2:])


def unpack_positions(packing: Packing, pos_PT: Array, length_P: Array) -> Array:
  """`unpack` of positions, with -1 after the end of each row."""
  pos_BL = unpack(packing, pos_PT, length_P)
  column_1L = jnp.arange(pos_BL.shape[1])[None]
  return jnp.where(pos_BL == column_1L, pos_BL, -1)


def before_responses(
  packing: Packing, hidden_PTD: Array, length_P: Array
) -> Array:
  """hidden_BTD of the tokens before those of each response: the last of the
  prompt, then all of the response but its last column."""
  P, T, D = hidden_PTD.shape
  G, width = packing.responses, packing.response_width(T)
  last_P1 = jnp.maximum(length_P - 1, 0)[:, None]
  last_P1D = _take(hidden_PTD[:, : packing.width], last_P1)
  last = jnp.broadcast_to(last_P1D[:, None], (P, G, 1, D))
  responses = hidden_PTD[:, packing.width :].reshape(P, G, width, D)
  before = jnp.concatenate([last, responses[:, :, :-1]], axis=2)
  return before.reshape(P * G, width, D)


def responses_to_rows(
  packing: Packing, response_BT: Array, length_P: Array
) -> Array:
  """An array of the responses' tokens [B, T] as one of rows, [B, L], that is 0
  in the columns of the prompt. Padding has values of other tokens."""
  width = response_BT.shape[1]
  column_1L = jnp.arange(packing.width + width)[None]
  column_BL = column_1L - jnp.repeat(length_P, packing.responses)[:, None]
  rows_BL = _take(response_BT, jnp.clip(column_BL, 0, width - 1))
  return jnp.where(column_BL >= 0, rows_BL, 0)


def _take(x_BT, column_BS):
  """x[b, column[b, s]] of an array [B, T, ...]."""
  axes = tuple(range(2, x_BT.ndim))
  return jnp.take_along_axis(x_BT, jnp.expand_dims(column_BS, axes), axis=1)
