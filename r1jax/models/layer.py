"""The base of a layer, and what is outside of the layers: embedding and norm."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.sharding import PartitionSpec as P

from r1jax.models import linear
from r1jax.models.model_config import ModelConfig
from r1jax.models.sharding import NoSharding

# FSDP over 'data' and tensor parallelism over 'model', by the name of the leaf.
PARTITION = dict(embed=P('model', 'data'), head=P('model', 'data'))
# Matrices [D, ...] and [..., D], see outputs_first.
INPUT_FIRST = 'qkv', 'gate_up'
OUTPUT_LAST = 'out', 'down'


def gate_up_first(name: str, w: Array) -> Array:
  """A layer's [D, 2, F] of gate and up projections as [2, D, F], or [E, D, 2, F]
  as [2 E, D, F] with all gates, then all ups; other weights as they are.

  Prefill and the decode loop of TPUs read them so. Programs that are given the
  first form make a copy of the weights of all layers.
  """
  if name == 'experts_gate_up':
    *front, E, D, _, F = w.shape
    return jnp.moveaxis(w, -2, -4).reshape(*front, 2 * E, D, F)
  return w.swapaxes(-3, -2) if name.endswith('gate_up') else w


def gate_up_last(name: str, w: Array) -> Array:
  """The inverse of gate_up_first."""
  if name == 'experts_gate_up':
    *front, E, D, F = w.shape
    return jnp.moveaxis(w.reshape(*front, 2, E // 2, D, F), -4, -2)
  return w.swapaxes(-3, -2) if name.endswith('gate_up') else w


def outputs_first(name: str, w: Array) -> Array:
  """A layer's matrix with its input axes last, as linear.outputs_first takes it,
  if its name is one of those that Layer.product multiplies."""
  if name in INPUT_FIRST:
    return jnp.moveaxis(w, 0, -1)
  return jnp.moveaxis(w, -1, 0) if name in OUTPUT_LAST else w


def outputs_last(name: str, w: Array) -> Array:
  """The inverse of outputs_first."""
  if name in INPUT_FIRST:
    return jnp.moveaxis(w, -1, 0)
  return jnp.moveaxis(w, 0, -1) if name in OUTPUT_LAST else w


def rms_norm(x: Array, scale: Array, eps: float) -> Array:
  """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32."""
  x32 = x.astype(jnp.float32)
  mean = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
  scale = jnp.expand_dims(scale, tuple(range(x.ndim - 1)))
  return (x32 * jax.lax.rsqrt(mean + eps) * scale).astype(x.dtype)


def _with_offset(scale, offset):
  return scale + offset if offset else scale


class Layer(nn.Module):
  """Reads the parameters of one layer. Sizes are those of the whole model; the
  arrays are a device's shards of them, see sharding.py."""

  cfg: ModelConfig

  def weight(self, name: str, shape: tuple[int, ...], std: float) -> Array:
    """A matrix in cfg.dtype, gathered over 'data'. `shape` is that of the whole
    matrix, of which this is the device's part along 'model'."""
    cfg, w = self.cfg, self.stored(name, shape, nn.initializers.normal(std))
    w = cfg.sharding.gather_weight(name, w, cfg.dtype)
    if cfg.gate_up_first:
      w = gate_up_last(name, w)
    if cfg.outputs_first:
      w = outputs_last(name, w)
    parts = math.prod(shape) / w.size
    assert parts in (1, cfg.sharding.tensor_parallel), name
    return w

  def whole_weight(self, name: str, axis: int) -> Array:
    """`weight`, gathered along 'model' too, where `axis`, counted from the last,
    is sharded."""
    cfg = self.cfg
    w: Array = self.get_variable('params', name)
    w = cfg.sharding.gather_whole_weight(name, axis, w, cfg.dtype)
    return gate_up_last(name, w) if cfg.gate_up_first else w

  def product(
    self, name: str, x: Array, shape: tuple[int, ...], std: float
  ) -> Array:
    """x[..., I] @ the matrix `name` in float32. `shape` as in `weight`. The
    inputs I are its first axis, of the names in OUTPUT_LAST all but the last."""
    cfg = self.cfg
    if cfg.outputs_first and name in (*INPUT_FIRST, *OUTPUT_LAST):
      w = self.stored(name, shape, nn.initializers.normal(std))
      w = w.reshape(len(w), -1) if name in OUTPUT_LAST else w
      return linear.outputs_first(x, w.astype(cfg.dtype))
    w = self.weight(name, shape, std)
    w = w.reshape(-1, w.shape[-1]) if name in OUTPUT_LAST else w
    return linear.linear(cfg.cpu_layout, x, w)

  def norm(self, name: str, x: Array) -> Array:
    """rms_norm of x with the scale `name`."""
    offset = self.cfg.norm_offset
    one = nn.initializers.constant(1 - offset)
    scale = self.stored(name, x.shape[-1:], one)
    return rms_norm(x, _with_offset(scale, offset), self.cfg.norm_eps)

  def stored(self, name: str, shape: tuple[int, ...], initializer) -> Array:
    """The parameter, or this device's shard of it. Module.param would compare
    the shard's shape with `shape`."""
    if self.is_initializing():
      return self.param(name, initializer, shape)
    leaf: Array = self.get_variable('params', name)
    return self.cfg.sharding.own_heads(name, leaf)

  def gated_mlp(
    self, h_BTD: Array, ffn: int, act=jax.nn.silu, names=('gate_up', 'down')
  ) -> Array:
    """(act(h W_gate) * h W_up) W_down (GLU), over a device's part of the `ffn`
    channels F."""
    D, F = self.cfg.width, ffn
    gate_up = self.product(names[0], h_BTD, (D, 2, F), D**-0.5)
    h_BTF = _gated(gate_up, act).astype(h_BTD.dtype)
    std = (2 * self.cfg.layers * F) ** -0.5
    return self.product(names[1], h_BTF, (F, D), std).astype(h_BTD.dtype)


def gated_mlp(
  cfg: ModelConfig, h_BTD: Array, w_gate_up: Array, w_down: Array
) -> Array:
  """(silu(h W_gate) * h W_up) W_down, for weights [D, 2, F] and [F, D]."""
  gate_up = linear.linear(cfg.cpu_layout, h_BTD, w_gate_up)
  h_BTF = _gated(gate_up, jax.nn.silu).astype(h_BTD.dtype)
  return linear.linear(cfg.cpu_layout, h_BTF, w_down).astype(h_BTD.dtype)


def _gated(gate_up, act):
  gate, up = (a[:, :, 0] for a in jax.lax.split(gate_up, (1, 1), axis=2))
  return act(gate) * up


def whole(cfg: ModelConfig) -> Any:
  """The config of the model without sharding."""
  return dataclasses.replace(cfg, sharding=NoSharding())


def init_outer(key: Array, cfg: ModelConfig) -> dict:
  """Random parameters outside of the layers."""
  shape_VD = cfg.vocab_size, cfg.width

  def normal_VD(number):
    noise_VD = jax.random.normal(jax.random.fold_in(key, number), shape_VD)
    return noise_VD * cfg.width**-0.5

  params = dict(
    embed=normal_VD(1), norm=jnp.full(cfg.width, 1 - cfg.norm_offset)
  )
  if not cfg.tie_embeddings:
    params['head'] = normal_VD(2)
  if cfg.score:
    params['score'] = jnp.zeros(cfg.width)
  return params


def init_layers(key: Array, block: Layer, layers: int, args: tuple) -> dict:
  """Random parameters of `layers` layers, stacked. `args` are arguments of a
  call of the block."""

  def init_layer(key):
    return block.init(key, *args)['params']

  return jax.vmap(init_layer)(
    jax.random.split(jax.random.fold_in(key, 0), layers)
  )


def embed(
  params: dict, cfg: ModelConfig, tokens_BT: Array
) -> tuple[Any, Array]:
  """(cfg with the sharding of rows of this length, x_BTD)."""
  sharding = cfg.sharding.for_tokens(tokens_BT.shape[1])
  cfg = dataclasses.replace(cfg, sharding=sharding)
  x_BTD = sharding.embed_tokens(params['embed'], tokens_BT, cfg.dtype)
  if cfg.embed_scale != 1:
    x_BTD *= jnp.asarray(cfg.embed_scale, x_BTD.dtype)
  return cfg, x_BTD


def last_norm(params: dict, cfg: ModelConfig, x_BTD: Array) -> Array:
  """hidden_BTD of all tokens, after the norm that follows the layers."""
  scale = _with_offset(params['norm'], cfg.norm_offset)
  hidden_BTD = rms_norm(x_BTD, scale, cfg.norm_eps)
  return cfg.sharding.all_gather_tokens(hidden_BTD)
