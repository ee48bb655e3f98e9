"""The products of the routed experts of a layer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from r1jax.models import grouped, linear
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
  """float32 sum over this device's experts of weight * E(h). A row [M] is a
  token for one of its experts; the rows of an expert are adjacent."""
  dtype, D, F = h_TD.dtype, cfg.width, moe.ffn
  std = (2 * cfg.layers * F) ** -0.5
  w = module.weight('experts_gate_up', (moe.experts, D, 2, F), D**-0.5)
  w_down = module.weight('experts_down', (moe.experts, F, D), std)
  bias = _biases(moe, module)
  if cfg.tpu_layout and tokens <= DECODE_TOKENS:
    weight_TE = _own_weights(cfg, id_TE, weight_TE, len(w))
    return _all_experts(moe, h_TD, weight_TE, w, w_down, bias)
  order_M, place_TE, size_E = _sort(cfg, id_TE, len(w))
  form = _form(cfg)
  x_MD = _rows(h_TD, order_M, place_TE)
  if cfg.gate_up_first:
    # One product would make a copy of the weights of all layers.
    gate_MF = grouped.dot(form, x_MD, w[:, :, 0], size_E)
    up_MF = grouped.dot(form, x_MD, w[:, :, 1], size_E)
  else:
    gate_up = grouped.dot(form, x_MD, w.reshape(len(w), D, -1), size_E)
    gate_MF, up_MF = jnp.split(gate_up, 2, axis=1)
  if bias:
    own_M = id_TE.ravel()[order_M] - cfg.sharding.first_index(len(w))
    is_of_M = jax.nn.one_hot(own_M, len(w))
    gate_MF += linear.product('me,ef->mf', is_of_M, bias.gate_up_E2F[:, 0])
    up_MF += linear.product('me,ef->mf', is_of_M, bias.gate_up_E2F[:, 1])
  # The weights are applied here, so that no row's output is kept for gradients.
  weight_M = weight_TE.ravel().at[order_M].get(unique_indices=True)
  x_MF = moe.activation(gate_MF, up_MF) * weight_M[:, None]
  out_MD = grouped.dot(form, x_MF.astype(dtype), w_down, size_E)
  out_TD = _sum_of_rows(out_MD, order_M, place_TE)
  if bias:
    weight_TE = _own_weights(cfg, id_TE, weight_TE, len(w))
    out_TD += linear.product('te,ed->td', weight_TE, bias.down_ED)
  return out_TD


class _Biases(NamedTuple):
  """Of the products of this device's experts, float32."""

  gate_up_E2F: Array
  down_ED: Array


def _biases(moe, module):
  """The _Biases, None for experts without."""
  if not moe.linear_bias:
    return None
  E, zeros = moe.experts, nn.initializers.zeros
  return _Biases(
    module.stored('experts_gate_up_bias', (E, 2, moe.ffn), zeros),
    module.stored('experts_down_bias', (E, module.cfg.width), zeros),
  )


def _own_weights(cfg, id_TE, weight_TE, own):
  """weight_TE of every token and each of this device's `own` experts, 0 of those
  that a token did not choose."""
  number = jnp.arange(own) + cfg.sharding.first_index(own)
  is_chosen = id_TE[:, :, None] == number[None, None]  # [T, slots, own experts]
  return jnp.sum(weight_TE[:, :, None] * is_chosen, axis=1)


def _form(cfg):
  """The form of the grouped products."""
  if cfg.cpu_layout:
    return 'blocks'
  return 'gmm' if cfg.tpu_layout else 'ragged'


def _all_experts(moe, h_TD, weight_TE, w_EDCF, w_down_EFD, bias):
  """of_device with the products of every token and own expert, with the weights
  of _own_weights.

  For a decode step on TPUs, which takes the time to read the weights: plain
  products read them in place, grouped ones would copy the weights of a scanned
  layer.
  """
  # As they are stored, see layer.swap_gate_up: all gates, then all ups.
  E, D, _, F = w_EDCF.shape
  w = jnp.moveaxis(w_EDCF, 2, 0).reshape(2 * E, D, F)
  gate_ETF, up_ETF = jnp.split(linear.product('td,edf->etf', h_TD, w), 2)
  if bias:
    gate_ETF += bias.gate_up_E2F[:, None, 0]
    up_ETF += bias.gate_up_E2F[:, None, 1]
  x_ETF = moe.activation(gate_ETF, up_ETF) * weight_TE.T[:, :, None]
  out = linear.product('etf,efd->td', x_ETF.astype(h_TD.dtype), w_down_EFD)
  if bias:
    out += linear.product('te,ed->td', weight_TE, bias.down_ED)
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
