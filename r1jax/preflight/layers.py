"""Bytes, FLOPs and traffic of a model's parameters and layers on one device, by
formula. arithmetic.py adds them up to whole programs."""

import dataclasses
import math

import jax
from jax.sharding import PartitionSpec as P

from r1jax.distributed import device_placement, mesh_check
from r1jax.models import attention, registry, shared_heads, tpu_attention
from r1jax.preflight import experts, shapes
from r1jax.preflight.compiler import flops
from r1jax.preflight.plan import Plan
from r1jax.sampling import decode_state
from r1jax.training import optimizer, train_step

SUBLANES = 8  # of a TPU's tile


@dataclasses.dataclass(frozen=True)
class Sizes:
  """The arrays of a run on one device: bytes, then numbers of elements.
  "Gathered" arrays are sharded along 'model' only."""

  parameters: float  # bytes, float32, sharded as in training
  optimizer: float
  reference: float
  cast: float  # parameters as they are gathered: 0 in float32, else a copy
  rollout_weights: float  # gathered, in the dtype of the products
  sent_to_gather: float  # where every weight is gathered once; 0 under pmap
  sent_to_heads: float  # in it, by the all-to-all of shared_heads.py
  layer: float  # elements of one layer, gathered
  products: float  # of all layers and the head, gathered
  head: float  # of the output head, gathered
  largest: float  # of the largest parameter of all layers, gathered


def sizes_of(plan: Plan) -> Sizes:
  """The Sizes, from the parameters' shapes and their partition specs."""
  cfg, itemsize = plan.cfg, plan.itemsize
  is_pmap = plan.config.parallel.strategy == 'pmap'
  stored = shapes.parameters(plan.cfg)
  parameters = sum(_shards(plan, stored))
  weights, layer, largest, shared = 0.0, 0.0, 0.0, 0.0
  gathered: dict[str, float] = {}
  tree = shapes.parameters(plan.shared_cfg)
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = path[-1].key
    spec = P() if is_pmap else registry.PARTITION.get(name, P())
    elements = _elements(leaf, spec, dict(model=plan.tensor_parallel))
    if path[0].key != 'mtp' or plan.config.sample.draft:
      weights += elements * (itemsize if name in registry.PARTITION else 4)
    if path[0].key in registry.family_of(cfg).STACKS:
      layer += elements / cfg.layers
      largest = max(largest, elements)
    if name in shared_heads.SHARDED:
      shared += elements
    gathered[name] = elements
  products = cfg.layers * layer + gathered[cfg.table_name]
  data, to_heads = dict(plan.axes)['data'], 0.0
  if plan.shared_cfg.sharding.key_copies > 1:
    to_heads = sent(4, plan.tensor_parallel) * shared / data
  moved = 0 if is_pmap else sent(itemsize, data) * products + to_heads
  return Sizes(
    parameters=parameters,
    optimizer=sum(_shards(plan, _optimizer_state(plan, stored))),
    reference=parameters * bool(plan.config.grpo.kl_coef),
    cast=parameters * itemsize / 4 if itemsize < 4 else 0,
    rollout_weights=weights,
    sent_to_gather=moved,
    sent_to_heads=to_heads,
    layer=layer,
    products=products,
    head=gathered[cfg.table_name],
    largest=largest,
  )


def largest_shard(plan: Plan) -> float:
  """Bytes of a device's shard of the largest parameter, float32."""
  return max(_shards(plan, shapes.parameters(plan.cfg)))


def _optimizer_state(plan, tree):
  """The shapes of the optimiser's state for parameters of these shapes."""
  config = plan.config
  tx = optimizer.optimizer(config.optim, config.steps)
  return jax.eval_shape(tx.init, train_step.trained(tree))


def _shards(plan, tree):
  """The bytes of a device's shards of all leaves. Refuses a mesh that does not
  divide them."""
  axes, found = dict(plan.axes), []
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    spec = P()
    if plan.config.parallel.strategy == 'mesh':
      name = device_placement.leaf_name(path)
      spec = registry.partition(name, leaf.shape, plan.tensor_parallel)
      mesh_check.check_divides(name, leaf.shape, spec, axes)
    found.append(leaf.dtype.itemsize * _elements(leaf, spec, axes))
  return found


def _elements(leaf, spec, axes):
  """The number of elements of a parameter on one device."""
  devices = [axes.get(axis, 1) for axis in spec]
  return math.prod(leaf.shape) / math.prod(devices)


def layer_bytes(
  plan: Plan, sizes: Sizes, rows: int, length: int
) -> tuple[float, float, float]:
  """Bytes of (one layer's buffers forward, those forward and backward, what all
  layers save for the backward pass)."""
  cfg, itemsize, devices = plan.cfg, plan.itemsize, plan.tensor_parallel
  tokens, width, layer = rows * length, cfg.width, plan.layer_sizes
  query, projected = layer.query / devices, layer.projected / devices
  load = experts.load(plan, tokens, length)
  ffn = experts.buffer_channels(plan, load)
  scores = tokens * length * layer.heads / devices
  forward = tokens * 2 * ffn * (4 + itemsize) + 2 * itemsize * sizes.layer
  forward += tokens * projected * 2 * itemsize
  forward += tokens * experts.row_bytes(plan, load)
  backward = forward + tokens * (3 * ffn + 10 * width) * itemsize
  backward += 4 * sizes.largest / cfg.layers
  saved: float = tokens * width * itemsize
  if length % devices == 0:
    saved /= devices
  if cfg.remat != 'full':  # float32 results of the products
    # 'dots' does not save those of grouped products, nor do rounds.
    gated = ffn
    if cfg.remat == 'dots' or load.in_rounds:
      gated = experts.other_channels(plan)
    saved += tokens * 4 * (projected + 2 * gated + 2 * width)
  if cfg.remat == 'none':
    saved += tokens * itemsize * (4 * width + 3 * gated + 3 * query)
  if cfg.attention == 'einsum':
    forward += scores * (4 + itemsize)
    backward += scores * (8 + 2 * itemsize)
    if cfg.remat == 'none':
      saved += scores * itemsize
  elif (
    cfg.attention == 'splash' and length < tpu_attention.FUSED_BACKWARD_LIMIT
  ):
    # The fused kernel writes one partial dq for each block of 512 keys.
    backward += math.ceil(length / 512) * tokens * query * itemsize
  return forward, backward, cfg.layers * saved


def cache_bytes(plan: Plan, rows: float, length: float) -> float:
  """Bytes of the keys and values of `rows` rows in a rollout, with the whole
  tiles of TPUs in the layout of attention.in_cache_layout."""
  layer = plan.layer_sizes
  channels = layer.cache_channels
  if plan.pod.chip.is_tpu and channels % attention.TILE:
    length = math.ceil(length / attention.TILE) * attention.TILE
    channels = math.ceil(channels / SUBLANES) * SUBLANES
  heads: float = layer.cache_arrays * layer.cache_heads
  if layer.cache_is_sharded:
    heads /= plan.tensor_parallel
  return rows * plan.decode_layers * heads * length * channels * plan.itemsize


def forward_flops(plan: Plan, tokens: int, length: int) -> tuple[float, float]:
  """FLOPs of all layers, forward: (products with the weights, attention)."""
  cfg, devices = plan.cfg, plan.tensor_parallel
  keys: float = length
  if cfg.attention != 'einsum':  # Kernels skip the keys that are masked.
    keys = flops.visible_keys(length, plan.layer_sizes.windows)
  attend = 2 * tokens * keys * plan.layer_sizes.attended * cfg.layers / devices
  load = experts.load(plan, tokens, length)
  products = product_flops(plan, tokens, experts.used_channels(plan, load))
  products -= 2 * tokens * experts.unused_weights(plan, load) * cfg.layers
  return products, attend


def product_flops(plan: Plan, tokens: int, channels: float) -> float:
  """FLOPs of the products of all layers with their weights, forward, if
  `channels` of the device's feed-forward channels compute a token."""
  cfg, layer = plan.cfg, plan.layer_sizes
  attention_weights = layer.weights - 3 * cfg.width * layer.ffn
  weights = attention_weights / plan.tensor_parallel + layer.replicated
  weights += 3 * cfg.width * channels
  return 2 * tokens * weights * cfg.layers


def module_flops(
  plan: Plan, tokens: int, length: int, of_layers: float
) -> float:
  """FLOPs of the module that drafts, forward, for rows of `length` tokens: a layer
  as large as the mean of the model's, which need `of_layers`, and a projection
  of two vectors, for which tokens are sharded along 'model'."""
  if not plan.config.sample.draft:
    return 0.0
  projected = tokens
  if length % plan.tensor_parallel == 0:
    projected //= plan.tensor_parallel
  return of_layers / plan.cfg.layers + 2 * projected * 2 * plan.cfg.width**2


def activation_traffic(plan: Plan, tokens: int, length: int) -> float:
  """HBM bytes of all layers' activations in one forward pass."""
  cfg, devices = plan.cfg, plan.tensor_parallel
  layer = plan.layer_sizes
  heads = layer.projected / devices
  load = experts.load(plan, tokens, length)
  channels = load.rounds * experts.buffer_channels(plan, load)
  moved = tokens * (8 * cfg.width + 4 * heads + 4 * channels) * plan.itemsize
  rows = load.rounds * experts.row_bytes(plan, load)
  moved += 2 * tokens * layer.expert_layers * rows
  if cfg.attention == 'einsum':
    moved += 4 * tokens * length * layer.heads / devices * 4
  return cfg.layers * moved


def traffic_of_rounds(
  plan: Plan, tokens: int, length: int, gradients: bool = False
) -> float:
  """HBM bytes of the weights of experts in all layers that rounds after the first
  read, forward; for gradients also backward, where each round adds to the float32
  sums of their gradients."""
  cfg, layer = plan.cfg, plan.layer_sizes
  load = experts.load(plan, tokens, length)
  if not load.in_rounds:
    return 0.0
  own = cfg.num_experts / plan.tensor_parallel
  elements = 3 * cfg.width * layer.expert_ffn * own * layer.expert_layers
  moved = (load.rounds - 1) * plan.itemsize * (3 if gradients else 1)
  if gradients:
    moved += load.rounds * 8
  return cfg.layers * elements * moved


def sent(size: float, devices: int) -> float:
  """Bytes that each device sends to all-gather `size` bytes in a ring."""
  return size * (devices - 1) / devices


def sent_along_model(
  plan: Plan, tokens: int, length: int, gathers: int, is_gradient: bool = False
) -> float:
  """Bytes sent for `gathers` all-gathers of the activations in every layer. A
  reduce-scatter counts as two: TPUs compile it to an all-reduce.

  Half of them are those of experts. Exchanged rows are sent twice forward. For a
  gradient they are sent once more, with two cotangents; the weights of the shared
  expert are gathered twice, and their float32 gradient is scattered.
  """
  cfg, load = plan.cfg, experts.load(plan, tokens, length)
  size = tokens * cfg.width * plan.itemsize
  gathered = gathers * sent(size, plan.tensor_parallel)
  if load.is_exchanged:
    times, element = (
      (5, 2 * plan.itemsize + 8) if is_gradient else (2, plan.itemsize)
    )
    exchanged = times * experts.exchanged_bytes(plan, tokens, load)
    exchanged += element * experts.shared_elements(plan)
    share = plan.layer_sizes.expert_layers
    gathered += share * (exchanged - gathered / 2)
  return cfg.layers * gathered


def routing_bytes(plan: Plan) -> int:
  """Bytes of the ids of the experts that a token chooses in all layers."""
  layer, itemsize = (
    plan.layer_sizes,
    decode_state.routing_dtype(plan.cfg).itemsize,
  )
  layers = round(layer.expert_layers * plan.cfg.layers)
  return layers * layer.experts * itemsize
