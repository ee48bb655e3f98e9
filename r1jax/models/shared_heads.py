"""Key heads that several devices share.

If tensor_parallel is r times the number of key heads, each of them is on r
devices, and each of these has G / r of its G query heads. What the devices
compute together is a model with r copies of every key head, of which device m
along 'model' has number m.

The parameters are stored once. Matrices are sharded over 'model' along the
channels of a head, and an all-to-all gives each device all channels of its
heads. Others are replicated, and each device takes its part. The transposes of
both sum the gradients of the copies.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec as P


class Leaf(NamedTuple):
  """A parameter [..., K, G + shared, ...] with the query heads of each key head,
  then what these share."""

  spec: P  # if devices share key heads
  key_axis: int  # K, counted from the last
  shared: int = 0  # 2: a key and a value


LEAVES = dict(
  qkv=Leaf(P(None, 'data', None, None, 'model'), key_axis=-3, shared=2),
  out=Leaf(P(None, None, None, 'model', 'data'), key_axis=-4),
  qkv_bias=Leaf(P(), key_axis=-3, shared=2),
  sinks=Leaf(P(), key_axis=-2),
  q_norm_heads=Leaf(P(), key_axis=-3),
  k_norm_heads=Leaf(P(), key_axis=-3, shared=1),
)
SHARDED = [name for name, leaf in LEAVES.items() if 'model' in leaf.spec]
REPLICATED = LEAVES.keys() - SHARDED


def heads(name: str, shape: tuple[int, ...]) -> tuple[int, int]:
  """(key heads, query heads of each) of a parameter of LEAVES. The second is 0
  if it has none."""
  leaf = LEAVES[name]
  return shape[leaf.key_axis], shape[leaf.key_axis + 1] - leaf.shared


def are_shared(key_heads: int, queries: int, devices: int) -> bool:
  """Whether `devices` devices compute a model whose key heads have so many query
  heads each, by sharing key heads."""
  copies = devices // key_heads
  return copies > 1 and devices % key_heads == 0 and queries % copies == 0


def own_channels_to_heads(name: str, w: Array, copies: int) -> Array:
  """The heads of this device, from its channels of all heads."""
  spec, key_axis, _ = LEAVES[name]
  axes = w.ndim + key_axis, w.ndim + spec.index('model') - len(spec)
  return jax.lax.all_to_all(_copy(name, w, copies), 'model', *axes, tiled=True)


def own_heads(name: str, w: Array, copies: int) -> Array:
  """The heads of this device, from all."""
  device, axis = jax.lax.axis_index('model'), w.ndim + LEAVES[name].key_axis
  w = _copy(name, w, copies)
  return jax.lax.dynamic_slice_in_dim(w, device, 1, axis)


def _copy(name, w, copies):
  """[..., K, G + shared, ...] as [..., K copies, G / copies + shared, ...]."""
  axis = w.ndim + LEAVES[name].key_axis
  K, G = heads(name, w.shape)
  front, back = w.shape[:axis], w.shape[axis + 2 :]
  query, shared = jnp.split(w, [G], axis + 1)
  query = query.reshape(*front, K * copies, G // copies, *back)
  return jnp.concatenate([query, jnp.repeat(shared, copies, axis)], axis + 1)
