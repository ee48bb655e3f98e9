"""The products of the routed experts of a layer."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from r1jax.models import expert_products, expert_rounds, grouped, linear
from r1jax.models.expert_products import Rows, Weights
from r1jax.models.expert_rounds import Dispatch
from r1jax.models.layer import Layer
from r1jax.models.model_config import ModelConfig
from r1jax.models.moe_config import MoeConfig

DECODE_TOKENS = 2  # the most that a decode step computes of a row


def of_device(
  cfg: ModelConfig,
  moe: MoeConfig,
  module: Layer,
  h_TD: Array,
  id_TE: Array,
  weight_TE: Array,
  tokens: int,
) -> Array:
  """float32 sum over this device's experts of weight * E(h), for the tokens of
  all devices of 'model'; a row of them has `tokens`."""
  devices = cfg.sharding.tensor_parallel
  if cfg.tpu_layout and tokens <= DECODE_TOKENS:
    return _all_experts(cfg, moe, module, h_TD, id_TE, weight_TE)
  weights = _weights(cfg, moe, module)
  rows = min(moe.experts_per_token, moe.experts // devices) * len(h_TD)
  capacity = expert_rounds.capacity(moe, len(h_TD), devices)
  if capacity == rows or tokens <= DECODE_TOKENS:
    return _all_rows(cfg, moe, weights, h_TD, id_TE, weight_TE)
  dispatch = Dispatch(
    moe=moe, sharding=cfg.sharding, form=_form(cfg), capacity=capacity
  )
  return expert_rounds.weighted_sum(dispatch, h_TD, weight_TE, id_TE, weights)


def exchanged(
  cfg: ModelConfig,
  moe: MoeConfig,
  module: Layer,
  h_TD: Array,
  id_TE: Array,
  weight_TE: Array,
) -> Array:
  """float32 sum over all experts of weight * E(h), for this device's tokens."""
  devices = cfg.sharding.tensor_parallel
  dispatch = Dispatch(
    moe=moe,
    sharding=cfg.sharding,
    form=_form(cfg),
    capacity=expert_rounds.sent_capacity(moe, len(h_TD), devices),
    is_exchanged=True,
  )
  weights = _weights(cfg, moe, module)
  return expert_rounds.weighted_sum(dispatch, h_TD, weight_TE, id_TE, weights)


def _form(cfg):
  """The form of the grouped products."""
  if cfg.cpu_layout:
    return 'blocks'
  return 'gmm' if cfg.tpu_layout else 'ragged'


def _stored(cfg, moe, module):
  """(w_EDCF, w_down_EFD, and their biases or None)."""
  E, D, F, zeros = moe.experts, cfg.width, moe.ffn, nn.initializers.zeros
  std = (2 * cfg.layers * F) ** -0.5
  w = module.weight('experts_gate_up', (E, D, 2, F), D**-0.5)
  w_down = module.weight('experts_down', (E, F, D), std)
  if not moe.linear_bias:
    return w, w_down, None, None
  b_E2F = module.stored('experts_gate_up_bias', (E, 2, F), zeros)
  return w, w_down, b_E2F, module.stored('experts_down_bias', (E, D), zeros)


def _weights(cfg, moe, module):
  """The Weights for grouped products."""
  w, w_down, b_E2F, b_down_ED = _stored(cfg, moe, module)
  if cfg.gate_up_first:
    # One product would make a copy of the weights of all layers.
    return Weights((w[:, :, 0], w[:, :, 1]), w_down, b_E2F, b_down_ED)
  gate_up = w.reshape(*w.shape[:2], -1)
  return Weights((gate_up,), w_down, b_E2F, b_down_ED)


def _all_rows(cfg, moe, weights, h_TD, id_TE, weight_TE):
  """of_device in one buffer with room for all rows that there can be."""
  order_M, place_TE, size_E = _sort(cfg, id_TE, len(weights.down_EFD))
  x_MD = _rows(h_TD, order_M, place_TE)
  weight_M = weight_TE.ravel().at[order_M].get(unique_indices=True)
  rows = Rows(x_MD, weight_M, size_E)
  out_MD = expert_products.forward(
    grouped.dot, _form(cfg), moe.activation, rows, weights
  )
  return _sum_of_rows(out_MD, order_M, place_TE)


def _all_experts(cfg, moe, module, h_TD, id_TE, weight_TE):
  """of_device with the products of every token and own expert.

  For a decode step on TPUs, which takes the time to read the weights: plain
  products read them in place, grouped ones would copy the weights of a scanned
  layer.
  """
  w_EDCF, w_down_EFD, b_E2F, b_down_ED = _stored(cfg, moe, module)
  E, D, _, F = w_EDCF.shape
  number = jnp.arange(E) + cfg.sharding.first_index(E)
  is_chosen = id_TE[:, :, None] == number[None, None]  # [T, slots, own experts]
  weight_TE = jnp.sum(weight_TE[:, :, None] * is_chosen, axis=1)
  # As they are stored, see layer.gate_up_first: all gates, then all ups.
  w = jnp.moveaxis(w_EDCF, 2, 0).reshape(2 * E, D, F)
  gate_ETF, up_ETF = jnp.split(linear.product('td,edf->etf', h_TD, w), 2)
  if b_E2F is not None:
    gate_ETF += b_E2F[:, None, 0]
    up_ETF += b_E2F[:, None, 1]
  x_ETF = moe.activation(gate_ETF, up_ETF) * weight_TE.T[:, :, None]
  out = linear.product('etf,efd->td', x_ETF.astype(h_TD.dtype), w_down_EFD)
  if b_down_ED is not None:
    out += linear.product('te,ed->td', weight_TE, b_down_ED)
  return out


def _sort(cfg, id_TE, own):
  """(order_M, place_TE, size_E): the numbers token * experts_per_token + slot
  sorted by expert, those of this device's `own` experts first; the row of each
  of them, M for other experts; the number of rows of each own expert.

  The experts of a token differ, so at most `own` of them are this device's.
  """
  tokens, slots = id_TE.shape
  id_TE = id_TE - cfg.sharding.first_index(own)
  is_own_TE = (id_TE >= 0) & (id_TE < own)
  id_TE = jnp.where(is_own_TE, id_TE, own)
  rows = tokens * min(slots, own)
  order = jnp.argsort(id_TE.ravel(), stable=True)
  place_TE = jnp.argsort(order).reshape(id_TE.shape)
  size_E = jnp.bincount(id_TE.ravel(), length=own + 1)[:own].astype(jnp.int32)
  return order[:rows], jnp.where(is_own_TE, place_TE, rows), size_E


@jax.custom_vjp
def _rows(h_TD, order_M, place_TE):
  """x_MD: the tokens of the rows. This and _sum_of_rows are each other's
  transpose, so that neither scatters."""
  return h_TD[order_M // place_TE.shape[1]]


def _rows_forward(h_TD, order_M, place_TE):
  return _rows(h_TD, order_M, place_TE), (order_M, place_TE)


def _rows_backward(saved, g_MD):
  return _sum_of_rows(g_MD, *saved).astype(g_MD.dtype), None, None


_rows.defvjp(_rows_forward, _rows_backward)


@jax.custom_vjp
def _sum_of_rows(x_MD, order_M, place_TE):
  """out_TD in float32: the sum over each token's rows."""
  x_TED = x_MD.at[place_TE].get(mode='fill', fill_value=0)
  return x_TED.sum(axis=1, dtype=jnp.float32)


def _sum_of_rows_forward(x_MD, order_M, place_TE):
  return _sum_of_rows(x_MD, order_M, place_TE), (order_M, place_TE)


def _sum_of_rows_backward(saved, g_TD):
  return _rows(g_TD, *saved), None, None


_sum_of_rows.defvjp(_sum_of_rows_forward, _sum_of_rows_backward)
