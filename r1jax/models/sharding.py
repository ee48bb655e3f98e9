"""The collectives of a model that is sharded over a mesh.

Every device runs the same function on its shards, with mesh axes 'data' and
'model'. The differentiated scalar is the sum over devices, so the backward pass
of a collective is its transpose: sum for sum, reduce-scatter for gather.
"""

import dataclasses
import functools
from typing import Self

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import shared_heads


@dataclasses.dataclass(frozen=True)
class FsdpTensorParallel:
  """FSDP: rows and weights are sharded over 'data'. Tensor parallelism: heads,
  feed-forward channels and vocabulary are sharded over 'model'.

  fsdp_axes names the weights that are sharded over 'data', each with the
  sharded axis, counted from the last. With key_copies > 1 so many devices share
  a key head, see shared_heads.py. With shard_tokens the activations between the
  attention and MLP layers are sharded over 'model' along their tokens (sequence
  parallelism).
  """

  tensor_parallel: int = 1  # devices of the 'model' axis
  fsdp_axes: tuple[tuple[str, int], ...] = ()
  key_copies: int = 1
  shard_tokens: bool = False

  def for_tokens(self, tokens: int) -> Self:
    """Shards rows of this length along tokens if the devices divide them."""
    parts = self.tensor_parallel
    shard_tokens = parts > 1 and tokens > 1 and tokens % parts == 0
    return dataclasses.replace(self, shard_tokens=shard_tokens)

  def gather_weight(self, name: str, w: Array, dtype: str) -> Array:
    """A weight in `dtype`, gathered over 'data', not over 'model'."""
    is_sharded = name in dict(self.fsdp_axes) and name in shared_heads.SHARDED
    if self.key_copies > 1 and is_sharded:
      # Before the gather, where the shards are small.
      w = shared_heads.own_channels_to_heads(name, w, self.key_copies)
    return _gather(self._data_axis(name), str(dtype), w)

  def own_heads(self, name: str, leaf: Array) -> Array:
    """A parameter, or of one that all devices have this device's heads."""
    if self.key_copies > 1 and name in shared_heads.REPLICATED:
      return shared_heads.own_heads(name, leaf, self.key_copies)
    return leaf

  def gather_whole_weight(
    self, name: str, axis: int, w: Array, dtype: str
  ) -> Array:
    """gather_weight, gathered over 'model' too, where `axis`, counted from the
    last, is sharded. Its gradient is summed over both in float32."""
    return _gather((*self._data_axis(name), ('model', axis)), str(dtype), w)

  def _data_axis(self, name):
    """(('data', the axis of this weight that is sharded over it),), or ()."""
    axes = dict(self.fsdp_axes)
    return (('data', axes[name]),) if name in axes else ()

  def scatter_gradient(self, name: str, grad: Array) -> Array:
    """The transpose of gather_weight: this device's shard of a gradient, summed
    over 'data' in float32."""
    axes = self._data_axis(name)
    return _scatter(axes, grad) if axes else grad

  def embed_tokens(self, table_VD: Array, id_BT: Array, dtype: str) -> Array:
    """table[id] for this device's rows, and its tokens with shard_tokens.

    The table is not gathered: each device looks up its own channels for the
    rows of all devices, and an all-to-all exchanges channels for rows.
    """
    fsdp = 'embed' in dict(self.fsdp_axes)
    if fsdp:
      id_BT = jax.lax.all_gather(id_BT, 'data', tiled=True)
    id_BT = id_BT - self.first_index(table_VD.shape[0])
    own_BT = (id_BT >= 0) & (id_BT < table_VD.shape[0])
    x_BTD = table_VD[jnp.where(own_BT, id_BT, 0)].astype(dtype)
    x_BTD = jnp.where(own_BT[..., None], x_BTD, 0)
    if fsdp:
      x_BTD = jax.lax.all_to_all(x_BTD, 'data', 0, 2, tiled=True)
    return self.reduce_scatter_tokens(x_BTD)

  def all_gather_tokens(self, x_BTD: Array) -> Array:
    """All tokens of the rows, before a product with a sharded weight."""
    if not self.shard_tokens:
      return x_BTD
    return jax.lax.all_gather(x_BTD, 'model', axis=1, tiled=True)

  def own_tokens(self, x_BT: Array) -> Array:
    """This device's part of what all_gather_tokens gathers, with any further
    axes."""
    if not self.shard_tokens:
      return x_BT
    tokens = x_BT.shape[1] // self.tensor_parallel
    first = jax.lax.axis_index('model') * tokens
    return jax.lax.dynamic_slice_in_dim(x_BT, first, tokens, axis=1)

  def reduce_scatter_tokens(self, x_BTD: Array) -> Array:
    """The sum over 'model'; with shard_tokens each device keeps its tokens."""
    if not self.shard_tokens:
      return self.sum_over_model(x_BTD)
    return jax.lax.psum_scatter(x_BTD, 'model', scatter_dimension=1, tiled=True)

  def exchange(self, x: Array) -> Array:
    """Sends part i of the first axis to device i of 'model', in exchange for its
    part of this device's number. It is its own inverse."""
    return jax.lax.all_to_all(x, 'model', 0, 0, tiled=True)

  def sum_over_model(self, x: Array) -> Array:
    return x if self.tensor_parallel == 1 else _sum(x)

  def max_over_model(self, x: Array) -> Array:
    return x if self.tensor_parallel == 1 else jax.lax.pmax(x, 'model')

  def first_index(self, count: int) -> Array | int:
    """The first index of this device along an axis that is sharded over
    'model', where each device has `count` of them."""
    if self.tensor_parallel == 1:
      return 0
    return jax.lax.axis_index('model') * count

  def all_gather_vocab(self, x: Array) -> Array:
    """x[..., V] from the devices' shards along V."""
    if self.tensor_parallel == 1:
      return x
    return jax.lax.all_gather(x, 'model', axis=x.ndim - 1, tiled=True)


class NoSharding(FsdpTensorParallel):
  """For a model that is replicated: no method communicates."""

  def embed_tokens(self, table_VD: Array, id_BT: Array, dtype: str) -> Array:
    return table_VD[id_BT].astype(dtype)


@jax.custom_vjp
def _sum(x):
  return jax.lax.psum(x, 'model')


_sum.defvjp(lambda x: (_sum(x), None), lambda _, g: (jax.lax.psum(g, 'model'),))


def _gather(axes, dtype, w):
  """A weight in `dtype`; for each (mesh axis, axis of the weight) its shards
  concatenated."""
  return _gathered(axes, dtype, w) if axes else w.astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gathered(axes, dtype, w):
  """_gather of float32 weights, communicated in `dtype`. The sharded axis is moved
  to the front, where concatenation needs no copy."""
  w = w.astype(dtype)
  for name, axis in axes:
    w = jax.lax.all_gather(jnp.moveaxis(w, axis, 0), name, tiled=True)
    w = jnp.moveaxis(w, 0, axis)
  return w


def _scatter(axes, g):
  """The transpose of _gather, summed in float32."""
  g = g.astype(jnp.float32)
  for name, axis in reversed(axes):
    g = jax.lax.psum_scatter(jnp.moveaxis(g, axis, 0), name, tiled=True)
    g = jnp.moveaxis(g, 0, axis)
  return g


_gathered.defvjp(
  lambda axes, dtype, w: (_gathered(axes, dtype, w), None),
  lambda axes, dtype, _, g: (_scatter(axes, g),),
)
