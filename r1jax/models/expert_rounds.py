"""The sum over experts, computed in rounds of a fixed number of rows.

A row is a pair of a token and one of its experts. How many rows a device has
depends on the router: k T / p on average, of the k experts of T tokens on p
devices, but min(k, E / p) T at worst. Shapes are static and no row is dropped, so
each round computes at most `capacity` rows, in the order of the experts, and the
number of rounds depends on the data: 1 if experts are about equally busy.

  gathered:   all tokens are on every device, which takes
              capacity = SLACK k T / p of its own rows in a round;
              rounds = max over devices of ceil(rows / capacity)
  exchanged:  a device has T / p tokens. By an all-to-all it sends at most
              capacity = SENT_SLACK k T / p^2 rows to each of the p devices in a
              round, and receives as many; the results return by another;
              rounds = max over pairs of devices of ceil(rows / capacity)

Capacities are rounded up, to a multiple of TILE and of SENT_TILE. A round that is
gathered has rows of few experts, so that further rounds do not read all weights
again. The backward pass runs the same rounds and computes the products with gate
and up again; nothing of a round is saved.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import expert_products, grouped
from r1jax.models.expert_products import Rows, Weights
from r1jax.models.moe_config import MoeConfig
from r1jax.models.sharding import FsdpTensorParallel

SLACK, TILE = 1.25, 512
SENT_SLACK, SENT_TILE = 2.0, 8
SCOPE = 'expert_rounds'  # the name of the loops, for preflight


def capacity(moe: MoeConfig, tokens: int, devices: int) -> int:
  """Rows of a round of gathered tokens: at most all that a device can have."""
  rows = min(moe.experts_per_token, moe.experts // devices) * tokens
  mean = moe.experts_per_token * tokens / devices
  return min(rows, math.ceil(SLACK * mean / TILE) * TILE)


def sent_capacity(moe: MoeConfig, own_tokens: int, devices: int) -> int:
  """Rows that a device with `own_tokens` sends to each device in a round."""
  mean = moe.experts_per_token * own_tokens / devices
  return math.ceil(SENT_SLACK * mean / SENT_TILE) * SENT_TILE


def is_exchanged(moe: MoeConfig, own_tokens: int, devices: int) -> bool:
  """Whether an exchange in two rounds sends less than a gather of the tokens and
  a reduce-scatter of the sums. With it the shared expert's weights are gathered
  along 'model', since its tokens are not."""
  rows = devices * sent_capacity(moe, own_tokens, devices)
  tokens = devices * own_tokens
  return 2 * (2 * rows) + 3 * moe.shared_ffn < 2 * tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dispatch:
  """How rows come to their experts."""

  moe: MoeConfig
  sharding: FsdpTensorParallel
  form: grouped.Form
  capacity: int
  is_exchanged: bool = False

  @property
  def own(self) -> int:
    """The experts of a device."""
    return self.moe.experts // self.sharding.tensor_parallel


class _Table(NamedTuple):
  """Pairs are numbers token * slots + slot. Those for one destination follow one
  another, in the order of the experts. Gathered tokens have one destination:
  the device itself."""

  pair_M: Array  # sorted
  own_M: Array  # the number of each pair's expert on its device
  start_P: Array  # in pair_M, of each destination
  count_P: Array
  rounds: Array


class _Round(NamedTuple):
  pair_M: Array  # that are sent; those that are not used are out of range
  order_M: Array | None  # of the received rows; None if they are in order
  size_E: Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def weighted_sum(
  dispatch: Dispatch,
  h_TD: Array,
  weight_TE: Array,
  id_TE: Array,
  weights: Weights,
) -> Array:
  """float32 sum of weight * E(h): of gathered tokens over this device's experts,
  of a device's tokens over all experts if they are exchanged. Ids from the number
  of experts on are of no expert."""
  return _forward(dispatch, h_TD, weight_TE, id_TE, weights)[0]


def _forward(dispatch, h_TD, weight_TE, id_TE, weights):
  table = _table(dispatch, id_TE)
  form, act = dispatch.form, dispatch.moe.activation

  def step(number, out_TD):
    part = _round(dispatch, table, number)
    rows = _rows(dispatch, part, h_TD, weight_TE)
    out_MD = expert_products.forward(grouped.times, form, act, rows, weights)
    if dispatch.is_exchanged:
      out_MD = out_MD.astype(h_TD.dtype)
    return _add(dispatch, part, out_TD, out_MD)

  with jax.named_scope(SCOPE):
    out_TD = jnp.zeros(h_TD.shape, jnp.float32)
    out_TD = jax.lax.fori_loop(0, table.rounds, step, out_TD)
  return out_TD, (h_TD, weight_TE, table, weights)


def _backward(dispatch, saved, g_TD):
  h_TD, weight_TE, table, weights = saved
  form, act = dispatch.form, dispatch.moe.activation
  g_TD = g_TD.astype(h_TD.dtype)

  def step(number, carry):
    dh_TD, dweight_M, sums = carry
    part = _round(dispatch, table, number)
    rows = _rows(dispatch, part, h_TD, weight_TE)
    g_MD = _to_experts(dispatch, part, _of_tokens(dispatch, part, g_TD))
    dx_MD, more_M, sums = expert_products.backward(
      form, act, rows, weights, g_MD, sums
    )
    more_M = _to_tokens(dispatch, part, more_M)
    dweight_M = dweight_M.at[part.pair_M].add(more_M, mode='drop')
    return _add(dispatch, part, dh_TD, dx_MD), dweight_M, sums

  with jax.named_scope(SCOPE):
    zeros: Any = jax.tree.map(
      lambda a: jnp.zeros(a.shape, jnp.float32),
      (h_TD, weight_TE.ravel(), weights),
    )
    dh_TD, dweight_M, sums = jax.lax.fori_loop(0, table.rounds, step, zeros)
  gradients = jax.tree.map(lambda a, w: a.astype(w.dtype), sums, weights)
  dweight_TE = dweight_M.reshape(weight_TE.shape)
  return dh_TD.astype(h_TD.dtype), dweight_TE, None, gradients


weighted_sum.defvjp(_forward, _backward)


def _table(dispatch, id_TE):
  own, sharding = dispatch.own, dispatch.sharding
  key = id_TE.ravel()
  if dispatch.is_exchanged:
    end_P = jnp.arange(1, sharding.tensor_parallel + 1) * own
  else:
    key = key - sharding.first_index(own)
    key = jnp.where((key >= 0) & (key < own), key, own)
    end_P = jnp.array([own])
  pair_M = jnp.argsort(key, stable=True)
  end_P = jnp.sum(key[:, None] < end_P[None], axis=0)
  count_P = jnp.diff(end_P, prepend=0)
  rounds = jnp.max(-(-count_P // dispatch.capacity))
  if dispatch.is_exchanged:
    # The devices of an all-to-all run it equally often.
    rounds = sharding.max_over_model(rounds)
  return _Table(pair_M, key[pair_M] % own, end_P - count_P, count_P, rounds)


def _round(dispatch, table, number):
  """The _Round of this number."""
  own, pairs = dispatch.own, len(table.pair_M)
  index = number * dispatch.capacity + jnp.arange(dispatch.capacity)[None]
  is_used = index < table.count_P[:, None]
  index += table.start_P[:, None]
  index_M = jnp.where(is_used, index, pairs).ravel()
  pair_M = table.pair_M.at[index_M].get(mode='fill', fill_value=pairs)
  own_M = table.own_M.at[index_M].get(mode='fill', fill_value=own)
  order_M = None
  if dispatch.is_exchanged:
    own_M = dispatch.sharding.exchange(own_M)
    order_M = jnp.argsort(own_M, stable=True)
  size_E = jnp.sum(own_M[:, None] == jnp.arange(own)[None], axis=0)
  return _Round(pair_M, order_M, size_E.astype(jnp.int32))


def _rows(dispatch, part, h_TD, weight_TE):
  """The Rows of a round."""
  x_MD = _of_tokens(dispatch, part, h_TD)
  weight_M = weight_TE.ravel().at[part.pair_M].get(mode='clip')
  x_MD, weight_M = [_to_experts(dispatch, part, a) for a in (x_MD, weight_M)]
  return Rows(x_MD, weight_M, part.size_E)


def _of_tokens(dispatch, part, x_TD):
  """The tokens of the rows of a round; any in those that are not used."""
  token_M = part.pair_M // dispatch.moe.experts_per_token
  return x_TD.at[token_M].get(mode='clip')


def _add(dispatch, part, sum_TD, x_MD):
  """sum_TD, with the rows of a round added to their tokens."""
  token_M = part.pair_M // dispatch.moe.experts_per_token
  x_MD = _to_tokens(dispatch, part, x_MD).astype(sum_TD.dtype)
  return sum_TD.at[token_M].add(x_MD, mode='drop')


def _to_experts(dispatch, part, x):
  """The rows that this device computes, in the order of its experts."""
  if part.order_M is None:
    return x
  return dispatch.sharding.exchange(x)[part.order_M]


def _to_tokens(dispatch, part, x):
  """The inverse of _to_experts."""
  if part.order_M is None:
    return x
  return dispatch.sharding.exchange(x[jnp.argsort(part.order_M)])
