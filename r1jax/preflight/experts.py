"""The routed experts of a model on one device, by formula.

A row is a token for one of its experts. models/expert_rounds.py computes rows in
rounds, with buffers for the rows of one round; or in one round with buffers for
all rows that there can be. How many are used, and computed, depends on the load
of the device's experts. For a model without experts the channels below are those
of its MLP.
"""

import dataclasses
import math

from r1jax.models import expert_rounds, experts
from r1jax.preflight.plan import Plan


@dataclasses.dataclass(frozen=True)
class Load:
  """The rows of the busiest device in a program, for each token of a shard."""

  rows: float  # of the buffers of a round
  used: float  # in all rounds
  rounds: int = 1
  in_rounds: bool = False
  is_exchanged: bool = False

  @property
  def filled(self) -> float:
    """The share of the buffers' rows that is used."""
    return self.used / (self.rows * self.rounds) if self.rows else 1.0


def load(plan: Plan, tokens: int, length: int) -> Load:
  """The Load of a program with `tokens` tokens of a shard, in rows of `length`."""
  moe, devices = plan.layer_sizes.moe, plan.tensor_parallel
  if moe is None:
    return Load(rows=0.0, used=0.0)
  is_sharded = devices > 1 and length > 1 and length % devices == 0
  if is_sharded and expert_rounds.is_exchanged(moe, tokens // devices, devices):
    return exchanged_load(plan, tokens)
  most = min(moe.experts_per_token, moe.experts // devices)
  used = _used(plan)
  size = expert_rounds.capacity(moe, tokens, devices)
  if size == most * tokens or length <= experts.DECODE_TOKENS:
    return Load(rows=most, used=used)
  rounds = math.ceil(used * tokens / size)
  return Load(size / tokens, used, rounds, in_rounds=True)


def exchanged_load(plan: Plan, tokens: int) -> Load:
  """The Load if rows are exchanged. The devices send different numbers of rows to
  the busiest one: if m on average, at most about m + sqrt(2 m ln p) of p
  devices."""
  moe, devices = plan.layer_sizes.moe, plan.tensor_parallel
  assert moe
  size = expert_rounds.sent_capacity(moe, tokens // devices, devices)
  mean = _used(plan) * tokens / devices
  largest = mean + math.sqrt(2 * mean * math.log(devices))
  return Load(
    rows=devices * size / tokens,
    used=_used(plan),
    rounds=math.ceil(largest / size),
    in_rounds=True,
    is_exchanged=True,
  )


def _used(plan):
  moe, devices = plan.layer_sizes.moe, plan.tensor_parallel
  most = min(moe.experts_per_token, moe.experts // devices)
  return min(most, plan.expert_imbalance * moe.experts_per_token / devices)


def used_channels(plan: Plan, load: Load) -> float:
  """Feed-forward channels of a device that compute a token."""
  return _channels(plan, load.used)


def buffer_channels(plan: Plan, load: Load) -> float:
  """Feed-forward channels of a device for which a token has buffers."""
  return _channels(plan, load.rows)


def decode_channels(plan: Plan) -> float:
  """used_channels of a decode step, where TPUs compute all own experts."""
  if not plan.cfg.tpu_layout:
    return used_channels(plan, load(plan, tokens=1, length=1))
  return _channels(plan, plan.cfg.num_experts / plan.tensor_parallel)


def other_channels(plan: Plan) -> float:
  """A device's part of the channels that are not of routed experts."""
  layer = plan.layer_sizes
  of_token = layer.expert_layers * layer.experts * layer.expert_ffn
  return (layer.ffn - of_token) / plan.tensor_parallel


def _channels(plan, rows):
  """other_channels, and those of `rows` experts."""
  layer = plan.layer_sizes
  return other_channels(plan) + layer.expert_layers * layer.expert_ffn * rows


def row_bytes(plan: Plan, load: Load) -> float:
  """Bytes of a token's rows in one round of a layer with experts: their inputs
  and their float32 outputs, then these in the order of the token's experts, or
  the float32 sum; exchanged rows also as they are sent and received."""
  itemsize, summed = plan.itemsize, float(plan.layer_sizes.experts)
  row = itemsize + 4
  if load.in_rounds:
    summed = 1.0
  if load.is_exchanged:
    summed, row = 1 / plan.tensor_parallel, row + 2 * itemsize
  return plan.cfg.width * (load.rows * row + summed * 4)


def unused_weights(plan: Plan, load: Load) -> float:
  """The elements of a layer's router by which a device does not multiply a token
  of its shard, where other devices do."""
  layer, cfg, devices = plan.layer_sizes, plan.cfg, plan.tensor_parallel
  if not load.is_exchanged:
    return 0.0
  router = layer.expert_layers * cfg.width * cfg.num_experts
  return router * (devices - 1) / devices


def exchanged_bytes(plan: Plan, tokens: int, load: Load) -> float:
  """Bytes that a device sends to another place for a layer, once, if its rows are
  exchanged."""
  sent = tokens * load.rows * load.rounds * plan.cfg.width * plan.itemsize
  return sent * (plan.tensor_parallel - 1) / plan.tensor_parallel


def shared_elements(plan: Plan) -> float:
  """The elements of a layer's shared expert that a device sends to gather them
  along 'model', if rows are exchanged."""
  moe, devices = plan.layer_sizes.moe, plan.tensor_parallel
  assert moe
  return 3 * plan.cfg.width * moe.shared_ffn * (devices - 1) / devices


def dispatch(plan: Plan, tokens: int) -> tuple[float, float]:
  """Bytes that a device sends to bring `tokens` tokens of a shard to the experts
  of all layers and back, forward: (if tokens are gathered on all devices of
  'model' and sums reduce-scattered; if rows are exchanged and the weights of the
  shared expert gathered)."""
  cfg, devices = plan.cfg, plan.tensor_parallel
  layers = plan.layer_sizes.expert_layers * cfg.layers
  gathered = 2 * tokens * cfg.width * plan.itemsize * (devices - 1) / devices
  exchanged = 2 * exchanged_bytes(plan, tokens, exchanged_load(plan, tokens))
  exchanged += shared_elements(plan) * plan.itemsize
  return layers * gathered, layers * exchanged
