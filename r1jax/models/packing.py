"""Rows that have a prompt once, followed by several responses to it.

All parts of a model but attention treat tokens independently, so a packed row is
computed like any other: positions continue from the prompt in each response, and
attention (packed_attention.py) sees the keys of the prompt and of the same
response. Rows [B, L] hold a prompt and one response each; the B / G rows [P, T]
packed from them have T = width + G (L - width) columns.
"""

import dataclasses
import functools

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
  (B, L), rest = rows_BL.shape[:2], rows_BL.shape[2:]
  P, G = B // packing.responses, packing.responses
  prompts = rows_BL.reshape(P, G, L, *rest)[:, 0, : packing.width]
  length_B = jnp.repeat(length_P, G)
  responses = _shift(L - packing.width, rows_BL, -length_B)
  responses = responses.reshape(P, -1, *rest)
  return jnp.concatenate([prompts, responses], axis=1)


def pack_positions(packing: Packing, pos_BL: Array, length_P: Array) -> Array:
  """`pack` of positions, with -1 after the end of each prompt."""
  pos_PT = pack(packing, pos_BL, length_P)
  column_1T = jnp.arange(pos_PT.shape[1])[None]
  is_empty = (column_1T >= length_P[:, None]) & (column_1T < packing.width)
  return jnp.where(is_empty, -1, pos_PT)


def unpack(packing: Packing, packed_PT: Array, length_P: Array) -> Array:
  """The inverse of `pack`: [B, L, ...], each row with a copy of its prompt."""
  (P, T), rest = packed_PT.shape[:2], packed_PT.shape[2:]
  G, width = packing.responses, packing.response_width(T)
  prompts = packed_PT[:, None, : packing.width]
  prompts = jnp.broadcast_to(prompts, (P, G, packing.width, *rest))
  prompts = prompts.reshape(P * G, packing.width, *rest)
  responses = packed_PT[:, packing.width :].reshape(P * G, width, *rest)
  length_B, L = jnp.repeat(length_P, G), packing.width + width
  is_prompt_BL = jnp.arange(packing.width)[None] < length_B[:, None]
  prompts = jnp.where(_with_axes(is_prompt_BL, prompts), prompts, 0)
  padding = ((0, 0), (0, width)) + ((0, 0),) * len(rest)
  return jnp.pad(prompts, padding) + _shift(L, responses, length_B)


def unpack_positions(packing: Packing, pos_PT: Array, length_P: Array) -> Array:
  """`unpack` of positions, with -1 after the end of each row."""
  return unpack(packing, pos_PT + 1, length_P) - 1


def before_responses(
  packing: Packing, hidden_PTD: Array, length_P: Array
) -> Array:
  """hidden_BTD of the tokens before those of each response: the last of the
  prompt, then all of the response but its last column."""
  P, T, D = hidden_PTD.shape
  G, width = packing.responses, packing.response_width(T)
  last_P11 = jnp.maximum(length_P - 1, 0)[:, None, None]
  prompts = hidden_PTD[:, : packing.width]
  last_P1D = jnp.take_along_axis(prompts, last_P11, axis=1)
  last = jnp.broadcast_to(last_P1D[:, None], (P, G, 1, D))
  responses = hidden_PTD[:, packing.width :].reshape(P, G, width, D)
  before = jnp.concatenate([last, responses[:, :, :-1]], axis=2)
  return before.reshape(P * G, width, D)


def responses_to_rows(
  packing: Packing, response_BT: Array, length_P: Array
) -> Array:
  """An array of the responses' tokens [B, T] as one of rows, [B, L], that is 0
  in all other columns."""
  length_B = jnp.repeat(length_P, packing.responses)
  return _shift(packing.width + response_BT.shape[1], response_BT, length_B)


def _shift(columns, x_BT, by_B):
  """An array of so many columns, in which column t of a row is column t - by of
  the row in x [B, T, ...], and 0 where x has none."""
  return _shift_rows(x_BT.shape[1], columns, x_BT, by_B)


# The transpose is the shift back, so that the backward pass does not scatter.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _shift_rows(before, after, x_BT, by_B):
  """_shift from so many columns before to so many after."""
  from_BS = jnp.arange(after)[None] - by_B[:, None]
  exists = (from_BS >= 0) & (from_BS < before)
  index = _with_axes(jnp.where(exists, from_BS, 0), x_BT)
  taken = jnp.take_along_axis(x_BT, index, axis=1)
  return jnp.where(_with_axes(exists, x_BT), taken, 0)


def _shift_rows_forward(before, after, x_BT, by_B):
  return _shift_rows(before, after, x_BT, by_B), by_B


def _shift_rows_backward(before, after, by_B, g_BT):
  return _shift_rows(after, before, g_BT, -by_B), None


_shift_rows.defvjp(_shift_rows_forward, _shift_rows_backward)


def _with_axes(a_BT, x):
  """a_BT with as many axes as x [B, T, ...]."""
  return jnp.expand_dims(a_BT, tuple(range(2, x.ndim)))
