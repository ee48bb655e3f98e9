"""Mixtures of experts: the router, the routed experts and the shared expert of a
layer, and their tensors in Hugging Face's checkpoints.

Every token is computed by all experts that it chose; none is dropped. Over a
mesh the experts are divided among the devices of 'model'. Either each device
computes its own experts for all tokens of its rows, which are gathered as for a
gated MLP, and the parts are summed; or the devices exchange the tokens and what
the experts return. expert_rounds.is_exchanged chooses what sends less.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.sharding import PartitionSpec as P

from r1jax.models import expert_rounds, experts, hf_tensor
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.layer import Layer, gated_mlp
from r1jax.models.model_config import LayerSizes, ModelConfig
from r1jax.models.moe_config import MoeConfig

# The router is on every device, in float32.
PARTITION = dict(
  experts_gate_up=P(None, 'model', 'data', None, None),
  experts_down=P(None, 'model', None, 'data'),
  experts_gate_up_bias=P(None, 'model', None, None),
  experts_down_bias=P(None, 'model', None),
  shared_gate_up=P(None, 'data', None, 'model'),
  shared_down=P(None, 'model', 'data'),
)
BIAS = 'router_bias'  # state, not a parameter: the optimiser does not see it
LOAD = 'expert_load'  # the name of load_NE among the sums of a loss
SHARED = 'shared_gate_up', 'shared_down'  # the shared expert's weights
EPSILON = 1e-20  # of the sum of the chosen scores


def with_experts(
  sizes: LayerSizes, width: int, moe: MoeConfig, share: float = 1.0
) -> LayerSizes:
  """`sizes`, whose ffn has the experts, with what else a model has that has
  experts in this share of its layers."""
  return dataclasses.replace(
    sizes,
    replicated=sizes.replicated + share * width * moe.experts,
    moe=moe,
    expert_layers=share,
  )


def layer(
  cfg: ModelConfig,
  moe: MoeConfig,
  module: Layer,
  h_BTD: Array,
  pos_BT: Array,
  routing_BTE: Array | None,
) -> tuple[Array, Array]:
  """(out_BTD, the ids that the router chooses for all tokens of the rows),
  sum_e w_e E_e(h) + E_shared(h) with E(h) = (silu(h W_gate) * h W_up) W_down.
  Some models have biases and another Activation.

  h_BTD and out_BTD have this device's tokens, pos_BT and routing_BTE all tokens of
  the rows. routing_BTE are ids to use instead of the router's choice, with weights
  from the router's scores of these ids. No routed expert computes padding (pos <
  0), all of which a router would send to the same experts.
  """
  devices, sharding = cfg.sharding.tensor_parallel, cfg.sharding
  tokens = h_BTD.shape[0] * h_BTD.shape[1]
  if sharding.shard_tokens and expert_rounds.is_exchanged(moe, tokens, devices):
    return _exchanged(cfg, moe, module, h_BTD, pos_BT, routing_BTE)
  h_BTD = sharding.all_gather_tokens(h_BTD)
  h_TD = h_BTD.reshape(-1, cfg.width)
  choice_BTE, id_TE, weight_TE = _route(
    cfg, moe, module, h_BTD, pos_BT, routing_BTE
  )
  args = cfg, moe, module, h_TD, id_TE, weight_TE, h_BTD.shape[1]
  out_BTD = experts.of_device(*args).reshape(h_BTD.shape).astype(h_BTD.dtype)
  if moe.shared_ffn:
    out_BTD += module.gated_mlp(h_BTD, moe.shared_ffn, names=SHARED)
  return sharding.reduce_scatter_tokens(out_BTD), choice_BTE


def _exchanged(cfg, moe, module, h_BTD, pos_BT, routing_BTE):
  """`layer`, where only the rows of a device's experts are sent to it."""
  sharding = cfg.sharding
  if routing_BTE is not None:
    routing_BTE = sharding.own_tokens(routing_BTE)
  choice_BTE, id_TE, weight_TE = _route(
    cfg, moe, module, h_BTD, sharding.own_tokens(pos_BT), routing_BTE
  )
  h_TD = h_BTD.reshape(-1, cfg.width)
  out_TD = experts.exchanged(cfg, moe, module, h_TD, id_TE, weight_TE)
  out_BTD = out_TD.reshape(h_BTD.shape).astype(h_BTD.dtype)
  if moe.shared_ffn:
    w_gate_up = module.whole_weight(SHARED[0], axis=-1)
    w_down = module.whole_weight(SHARED[1], axis=-2)
    out_BTD += gated_mlp(cfg, h_BTD, w_gate_up, w_down)
  return out_BTD, sharding.all_gather_tokens(choice_BTE)


def _route(cfg, moe, module, h_BTD, pos_BT, routing_BTE):
  """(choice_BTE, id_TE, weight_TE): the router's choice; the experts to use, where
  those of padding have no expert's number; their weights."""
  h_TD = h_BTD.reshape(-1, cfg.width)
  score_TE = scores(cfg, moe, module, h_TD)
  bias_E = None
  if moe.correction_bias:
    bias_E = module.stored(BIAS, (moe.experts,), nn.initializers.zeros)
  choice_TE = choose(moe, score_TE, bias_E)
  id_TE = choice_TE
  if routing_BTE is not None:
    id_TE = routing_BTE.reshape(choice_TE.shape).astype(jnp.int32)
  weight_TE = weights(moe, score_TE, id_TE)
  id_TE = jnp.where(pos_BT.reshape(-1, 1) >= 0, id_TE, moe.experts)
  return choice_TE.reshape(*h_BTD.shape[:2], -1), id_TE, weight_TE


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
  if moe.linear_bias:
    shape_E, zeros = (moe.experts,), nn.initializers.zeros
    logit_TE += module.stored('router_linear_bias', shape_E, zeros)[None]
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
