"""Mixtures of experts: the router, the routed experts and the shared expert of a
layer, and their tensors in Hugging Face's checkpoints.

Every token is computed by all experts that it chose; none is dropped. Over a
mesh the experts are divided among the devices of 'model'. Each device computes
its own experts for all tokens of its rows, which are gathered as for a gated
MLP, and the parts are summed.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.sharding import PartitionSpec as P

from r1jax.models import grouped, hf_tensor, linear
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.layer import Layer
from r1jax.models.model_config import LayerSizes, ModelConfig

# The router is on every device, in float32.
PARTITION = dict(
  experts_gate_up=P(None, 'model', 'data', None, None),
  experts_down=P(None, 'model', None, 'data'),
  shared_gate_up=P(None, 'data', None, 'model'),
  shared_down=P(None, 'model', 'data'),
)
BIAS = 'router_bias'  # state, not a parameter: the optimiser does not see it
LOAD = 'expert_load'  # the name of load_NE among the sums of a loss
DECODE_TOKENS = 2  # the most that a decode step computes of a row
EPSILON = 1e-20  # of the sum of the chosen scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoeConfig:
  experts: int
  experts_per_token: int
  ffn: int  # channels of an expert
  score: Literal['sigmoid', 'softmax']
  normalize: bool  # the weights of a token's experts are divided by their sum
  scale: float = 1.0  # of the weights
  groups: int = 1  # of neighbouring experts
  top_groups: int = 1  # groups from which a token's experts come
  group_score: Literal['top2', 'max'] = 'top2'  # sum of the two best, or best
  correction_bias: bool = False  # is added to the scores that choose
  shared_ffn: int = 0  # channels of the shared experts together; 0: none

  @property
  def ffn_of_token(self) -> int:
    """Channels of all experts that a token uses."""
    return self.experts_per_token * self.ffn + self.shared_ffn


def with_experts(
  sizes: LayerSizes, width: int, moe: MoeConfig, share: float = 1.0
) -> LayerSizes:
  """`sizes`, whose ffn has the experts, with what else a model has that has
  experts in this share of its layers."""
  return dataclasses.replace(
    sizes,
    replicated=sizes.replicated + share * width * moe.experts,
    experts=moe.experts_per_token,
    expert_ffn=moe.ffn,
    expert_layers=share,
  )


def layer(
  cfg: ModelConfig,
  moe: MoeConfig,
  module: Layer,
  h_BTD: Array,
  routing_BTE: Array | None,
) -> tuple[Array, Array]:
  """(this device's part of the sum over experts and channels, the ids that the
  router chooses), sum_e w_e E_e(h) + E_shared(h) with E(h) = (silu(h W_gate) *
  h W_up) W_down.

  h_BTD has all tokens of the device's rows. routing_BTE are ids to use instead
  of the router's choice, with weights from the router's scores of these ids.
  """
  B, T, D = h_BTD.shape
  h_TD = h_BTD.reshape(-1, D)
  score_TE = scores(cfg, moe, module, h_TD)
  bias_E = None
  if moe.correction_bias:
    bias_E = module.stored(BIAS, (moe.experts,), nn.initializers.zeros)
  choice_TE = choose(moe, score_TE, bias_E)
  id_TE = choice_TE
  if routing_BTE is not None:
    id_TE = routing_BTE.reshape(choice_TE.shape).astype(jnp.int32)
  weight_TE = weights(moe, score_TE, id_TE)
  out_TD = _experts(cfg, moe, module, h_TD, id_TE, weight_TE, T)
  out_BTD = out_TD.reshape(B, T, D).astype(h_BTD.dtype)
  if moe.shared_ffn:
    names = 'shared_gate_up', 'shared_down'
    out_BTD += module.gated_mlp(h_BTD, moe.shared_ffn, names=names)
  return out_BTD, choice_TE.reshape(B, T, -1)


def scores(
  cfg: ModelConfig, moe: MoeConfig, module: Layer, h_TD: Array
) -> Array:
  """float32 scores [T, experts], of float32 products at the highest precision:
  rounding would change which experts are chosen."""
  shape = cfg.width, moe.experts
  router_DE = module.stored('router', shape, nn.initializers.normal(0.02))
  logit_TE = jnp.dot(
    h_TD.astype(jnp.float32), router_DE, precision=jax.lax.Precision.HIGHEST
  )
  if moe.score == 'sigmoid':
    return jax.nn.sigmoid(logit_TE)
  return jax.nn.softmax(logit_TE, axis=-1)


def choose(moe: MoeConfig, score_TE: Array, bias_E: Array | None) -> Array:
  """id_TE: each token's experts with the highest score + bias, the best first;
  of equal ones the lowest id. With groups only from the top_groups groups whose
  best, or two best together, are highest."""
  score_TE = jax.lax.stop_gradient(score_TE)
  if bias_E is not None:
    score_TE += jax.lax.stop_gradient(bias_E)[None]
  if moe.groups > 1:
    # Letters: T tokens, G groups, E experts of a group.
    score_TGE = score_TE.reshape(len(score_TE), moe.groups, -1)
    best = 2 if moe.group_score == 'top2' else 1
    group_TG = jax.lax.top_k(score_TGE, best)[0].sum(axis=2)
    _, kept = jax.lax.top_k(group_TG, moe.top_groups)
    is_kept_TG = jax.nn.one_hot(kept, moe.groups, dtype=bool).any(axis=1)
    score_TGE = jnp.where(is_kept_TG[:, :, None], score_TGE, -jnp.inf)
    score_TE = score_TGE.reshape(score_TE.shape)
  return jax.lax.top_k(score_TE, moe.experts_per_token)[1]


def weights(moe: MoeConfig, score_TE: Array, id_TE: Array) -> Array:
  """The float32 weights of the experts id_TE, from their scores alone."""
  weight_TE = jnp.take_along_axis(score_TE, id_TE, axis=1)
  if moe.normalize:
    weight_TE /= weight_TE.sum(axis=1, keepdims=True) + EPSILON
  return weight_TE * moe.scale


def _experts(cfg, moe, module, h_TD, id_TE, weight_TE, tokens):
  """float32 sum over this device's experts of weight * E(h). A row [M] is a
  token for one of its experts; the rows of an expert are adjacent."""
  dtype, D, F = h_TD.dtype, cfg.width, moe.ffn
  std = (2 * cfg.layers * F) ** -0.5
  w = module.weight('experts_gate_up', (moe.experts, D, 2, F), D**-0.5)
  w_down = module.weight('experts_down', (moe.experts, F, D), std)
  if cfg.tpu_layout and tokens <= DECODE_TOKENS:
    return _all_experts(cfg, h_TD, id_TE, weight_TE, w, w_down)
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
  # The weights are applied here, so that no row's output is kept for gradients.
  weight_M = weight_TE.ravel().at[order_M].get(unique_indices=True)
  x_MF = jax.nn.silu(gate_MF) * up_MF * weight_M[:, None]
  out_MD = grouped.dot(form, x_MF.astype(dtype), w_down, size_E)
  return _sum_of_rows(out_MD, order_M, place_TE)


def _form(cfg):
  """The form of the grouped products."""
  if cfg.cpu_layout:
    return 'blocks'
  return 'gmm' if cfg.tpu_layout else 'ragged'


def _all_experts(cfg, h_TD, id_TE, weight_TE, w_EDCF, w_down_EFD):
  """_experts with the products of every token and own expert, the weights of
  those that a token did not choose being 0.

  For a decode step on TPUs, which takes the time to read the weights: plain
  products read them in place, grouped ones would copy the weights of a scanned
  layer.
  """
  own = jnp.arange(len(w_EDCF)) + cfg.sharding.first_index(len(w_EDCF))
  is_chosen = id_TE[:, :, None] == own[None, None]  # [T, slots, own experts]
  weight_ET = jnp.sum(weight_TE[:, :, None] * is_chosen, axis=1).T
  # As they are stored, see layer.swap_gate_up: all gates, then all ups.
  E, D, _, F = w_EDCF.shape
  w = jnp.moveaxis(w_EDCF, 2, 0).reshape(2 * E, D, F)
  gate_ETF, up_ETF = jnp.split(linear.product('td,edf->etf', h_TD, w), 2)
  x_ETF = jax.nn.silu(gate_ETF) * up_ETF * weight_ET[:, :, None]
  return linear.product('etf,efd->td', x_ETF.astype(h_TD.dtype), w_down_EFD)


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


def load_sums(
  cfg: ModelConfig, routing: Array | None, pos_BT: Array
) -> dict[str, Array]:
  """dict(expert_load=load_NE): how many tokens choose each expert of each layer,
  without padding, to be summed over a whole batch. {} for a model without
  experts."""
  if routing is None:
    return {}
  layer_N111 = jnp.arange(len(routing))[:, None, None, None]
  is_token = (pos_BT >= 0).astype(jnp.int32)[None, :, :, None]
  load_NE = jnp.zeros((len(routing), cfg.num_experts), jnp.int32)
  return {LOAD: load_NE.at[layer_N111, routing].add(is_token)}


def load_metrics(sums: Mapping[str, Any]) -> dict[str, float]:
  """From load_NE of a batch: the load of the busiest expert over the mean, as
  the mean of the layers, and the share of experts that no token chose."""
  if LOAD not in sums:
    return {}
  load_NE = np.asarray(sums[LOAD])
  mean_N = np.maximum(load_NE.mean(axis=1), 1e-9)
  return {
    'router/max_load': float((load_NE.max(axis=1) / mean_N).mean()),
    'router/dead_experts': float((load_NE == 0).mean()),
  }


def flips(routing: Array, other: Array, pos_BT: Array) -> Array:
  """flips_BT: the share of the layers in which two choices of experts differ, in
  any order. 0 for the last token of a row, which no sampler computes."""
  has_next = jnp.pad(pos_BT[:, 1:] >= 0, ((0, 0), (0, 1)))
  same = routing[..., :, None] == other[..., None, :]
  differs = ~same.any(axis=-1).all(axis=-1)
  return differs.mean(axis=0) * has_next


def balanced(bias_NE: Array, load_NE: Array, rate: float) -> Array:
  """b_e + rate sign(mean(n) - n_e), for the load n of the whole batch
  (DeepSeek-V3, 2.1.2)."""
  mean_N1 = load_NE.mean(axis=1, keepdims=True)
  return bias_NE + rate * jnp.sign(mean_N1 - load_NE)


def hf_tensors(
  width: int, moe: MoeConfig, name: str = 'mlp'
) -> Iterator[HfTensor]:
  """The tensors of a layer, as DeepSeek and Qwen name them."""
  D, F, E = width, moe.ffn, moe.experts
  yield HfTensor(f'{name}.gate.weight', (E, D), 'router', axes=(0, -1))
  if moe.correction_bias:
    yield HfTensor(f'{name}.gate.e_score_correction_bias', (E,), BIAS)
  for n, x in enumerate(('gate', 'up')):
    for e in range(E):
      full_name = f'{name}.experts.{e}.{x}_proj.weight'
      index = np.s_[e, :, n]
      yield HfTensor(full_name, (F, D), 'experts_gate_up', index, (0, -1))
  for e in range(E):
    full_name = f'{name}.experts.{e}.down_proj.weight'
    yield HfTensor(full_name, (D, F), 'experts_down', np.s_[e], (0, -1))
  if moe.shared_ffn:
    leaves = 'shared_gate_up', 'shared_down'
    yield from hf_tensor.gated_mlp(
      width, moe.shared_ffn, f'{name}.shared_experts', leaves
    )
