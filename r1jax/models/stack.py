"""Runs the layers of a model: scanned or unrolled, in training, prefill and
decoding, and the cache that goes with them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import paging
from r1jax.models.attention import CachedLayer
from r1jax.models.model_config import ModelConfig

# What the layers remember of each token, e.g. keys and values: arrays
# [N, B, K, S, C], or a tuple of N tuples of arrays [B, K, S, C] if the layers
# are not scanned.
Cache = Any
# (x_BTD, parameters of the layer, its kind, its cache, its chosen experts) ->
# LayerOutput. A kind is a number, traced if the layers are scanned. The cache is
# a CachedLayer if they are scanned and cfg.reads_filled_cache.
Block = Callable[[Array, dict, Any, Any, Any], 'LayerOutput']

REMAT = dict(
  full=jax.checkpoint_policies.nothing_saveable,
  dots=jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
)


class LayerOutput(NamedTuple):
  x_BTD: Array
  cache: Any  # what attention returns, see gqa.attend
  routing_BTE: Array | None = None  # the ids of the chosen experts


class Output(NamedTuple):
  """What the forward function of a family returns."""

  hidden_BTD: Array  # after the last norm
  cache: Cache
  # The ids of the experts that the router chooses, [N, B, T, experts of a token],
  # of the layers that have experts; None for a model without.
  routing: Array | None = None


def run(
  cfg: ModelConfig,
  block: Block,
  x_BTD: Array,
  layers: Any,
  kind_N: Sequence[int],
  pos_BT: Array,
  past: Cache = None,
  routing: Array | None = None,
) -> tuple[Array, Cache, Array | None]:
  """(x_BTD, cache, routing) after all layers. `layers` are the parameters, with
  leaves stacked over N or as a tuple of N trees; kind_N has the kind of each
  layer, () if all are of kind 0. `past` and `routing` as in Output."""
  count = len(layers) if isinstance(layers, tuple) else _length(layers)
  kind_N = tuple(kind_N) or (0,) * count
  if cfg.remat != 'none':
    # The kind of an unrolled layer stays a Python number.
    static = () if cfg.scan_layers else (2,)
    block = jax.checkpoint(
      block, policy=REMAT[cfg.remat], static_argnums=static
    )
  if not cfg.scan_layers:
    return _unrolled(block, x_BTD, unstack(layers), kind_N, past, routing)
  kinds = jnp.array(kind_N) if len(set(kind_N)) > 1 else None
  reads_filled = past is not None and cfg.reads_filled_cache

  def step(x_BTD, inputs):
    layer, kind, layer_past, layer_routing = inputs
    kind = kind_N[0] if kind is None else kind
    if reads_filled:  # A slice of the cache would be a copy.
      layer_past = CachedLayer(past, layer_past)
    out = block(x_BTD, layer, kind, layer_past, layer_routing)
    return out.x_BTD, (out.cache, out.routing_BTE)

  pasts = jnp.arange(count) if reads_filled else past
  inputs = layers, kinds, pasts, routing
  x_BTD, (cache, routing) = jax.lax.scan(step, x_BTD, inputs)
  if past is not None:
    cache = tuple(
      paging.write_layers(cfg.tpu_layout, old, new, pos_BT[:, 0])
      for old, new in zip(past, cache)
    )
  return x_BTD, cache, routing


def _unrolled(block, x_BTD, layers, kind_N, past, routing):
  caches, chosen = [], []
  for n, (layer, kind) in enumerate(zip(layers, kind_N)):
    layer_past = None if past is None else past[n]
    layer_routing = None if routing is None else routing[n]
    out = block(x_BTD, layer, kind, layer_past, layer_routing)
    x_BTD = out.x_BTD
    caches.append(out.cache)
    chosen.append(out.routing_BTE)
  routing = None if chosen[0] is None else jnp.stack(chosen)
  return x_BTD, tuple(caches), routing


def unstack(layers: Any) -> tuple:
  """Stacked layers as a tuple of N trees."""
  if isinstance(layers, tuple):
    return layers
  leaves, tree = jax.tree.flatten(layers)
  parts = []
  for leaf in leaves:
    split = jax.lax.split(leaf, (1,) * len(leaf), axis=0)
    parts.append([part[0] for part in split])
  return tuple(jax.tree.unflatten(tree, layer) for layer in zip(*parts))


def unstack_alike(layers: Any) -> tuple:
  """`unstack` for XLA's CPU backend: it does not know the numbers of the layers,
  so that it compiles what is done with each layer once, not N times."""
  numbers = map(jnp.int32, range(_length(layers)))

  def layer(number):
    return jax.tree.map(
      lambda a: jax.lax.dynamic_index_in_dim(a, number, keepdims=False), layers
    )

  return tuple(map(layer, map(jax.lax.optimization_barrier, numbers)))


def init_cache(
  cfg: ModelConfig, layers: int, shapes: Sequence[tuple[int, ...]]
) -> Cache:
  """An empty cache in cfg.dtype; `shapes` are those of one layer's arrays."""

  def zeros(*front):
    return tuple(jnp.zeros((*front, *shape), cfg.dtype) for shape in shapes)

  if cfg.scan_layers:
    return zeros(layers)
  return tuple(zeros() for _ in range(layers))


def _length(layers):
  return len(jax.tree.leaves(layers)[0])
