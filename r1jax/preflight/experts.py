"""The routed experts of a model on one device, by formula.

A row is a token for one of its experts. On each device models/moe.py has
buffers with room for all rows that its tokens can have, whatever the router
chooses. The rows that are used, and computed, depend on the load of the device's
experts. For a model without experts the channels below are those of its MLP.
"""

import math

from r1jax.preflight.plan import Plan


def buffer_rows(plan: Plan) -> int:
  """Rows of the buffers for each token."""
  own = plan.cfg.num_experts // plan.tensor_parallel
  return min(plan.cfg.layer_sizes.experts, own)


def used_rows(plan: Plan) -> float:
  """Rows of a token on the busiest device, on average."""
  mean = plan.cfg.layer_sizes.experts / plan.tensor_parallel
  return min(buffer_rows(plan), plan.expert_imbalance * mean)


def filled(plan: Plan) -> float:
  """The share of the buffers' rows that the busiest device uses."""
  rows = buffer_rows(plan)
  return used_rows(plan) / rows if rows else 1.0


def used_channels(plan: Plan) -> float:
  """Feed-forward channels of a device that compute a token."""
  return _channels(plan, used_rows(plan))


def buffer_channels(plan: Plan) -> float:
  """Feed-forward channels of a device for which a token has buffers."""
  return _channels(plan, buffer_rows(plan))


def decode_channels(plan: Plan) -> float:
  """used_channels of a decode step, where TPUs compute all own experts."""
  if not plan.cfg.tpu_layout:
    return used_channels(plan)
  return _channels(plan, plan.cfg.num_experts / plan.tensor_parallel)


def other_channels(plan: Plan) -> float:
  """A device's part of the channels that are not of routed experts."""
  layer = plan.cfg.layer_sizes
  of_token = layer.expert_layers * layer.experts * layer.expert_ffn
  return (layer.ffn - of_token) / plan.tensor_parallel


def _channels(plan, rows):
  """other_channels, and those of `rows` experts."""
  layer = plan.cfg.layer_sizes
  return other_channels(plan) + layer.expert_layers * layer.expert_ffn * rows


def row_bytes(plan: Plan) -> float:
  """Bytes of a token's rows in one layer with experts: their inputs, their
  float32 outputs, and these in the order of the token's experts."""
  rows, experts = buffer_rows(plan), plan.cfg.layer_sizes.experts
  return plan.cfg.width * (rows * (plan.itemsize + 4) + experts * 4)


def dispatch(plan: Plan, tokens: int) -> tuple[float, float]:
  """Bytes that a device sends to bring `tokens` tokens of a shard to the experts
  of all layers and back, forward: (by models/moe.py, which gathers all tokens on
  all devices of 'model' and reduce-scatters the sums; by an all-to-all that
  sends a token only to the devices with its experts).

  A device with n of the E experts has one of the k experts of a token with
  probability 1 - C(E - n, k) / C(E, k), if all sets of k are equally likely.
  """
  cfg, devices = plan.cfg, plan.tensor_parallel
  layer, total = cfg.layer_sizes, cfg.num_experts
  size = tokens * cfg.width * plan.itemsize * layer.expert_layers * cfg.layers
  gathered = 2 * size * (devices - 1) / devices
  k, others = layer.experts, total - total // devices
  share = 1 - math.comb(others, k) / math.comb(total, k)
  return gathered, gathered * share
