"""Grouped-query attention: its config and its layer. Several families are built
on it; hf_attention.py has its tensors in checkpoints."""

import dataclasses
import math
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.sharding import PartitionSpec as P

from r1jax.models import (
  attention,
  kernels,
  packed_attention,
  paging,
  rope,
  sequence_packing,
  stack,
)
from r1jax.models.layer import Layer
from r1jax.models.model_config import LayerSizes, ModelConfig
from r1jax.models.rope import Rope
from r1jax.models.sharding import FsdpTensorParallel
from r1jax.models.stack import Cache

PARTITION = dict(
  qkv=P(None, 'data', 'model', None, None),
  qkv_bias=P(None, 'model', None, None),
  out=P(None, 'model', None, None, 'data'),
  sinks=P(None, 'model', None),
  q_norm_heads=P(None, 'model', None, None),
  k_norm_heads=P(None, 'model', None, None),
)


@dataclasses.dataclass(frozen=True)
class LayerKind:
  """How a layer attends."""

  rope: Rope | None = Rope()  # None: no position embedding (NoPE)
  window: int = 0  # a query sees itself and window - 1 keys before; 0: all


@dataclasses.dataclass(frozen=True, kw_only=True)
class GqaConfig(ModelConfig):
  heads: int
  kv_heads: int
  head_dim: int
  qkv_bias: bool = False
  out_bias: bool = False
  sinks: bool = False  # see attention.with_sink
  qk_norm: bool = False  # of each head
  qk_norm_heads: bool = False  # of all heads together
  kinds: tuple[LayerKind, ...] = (LayerKind(),)
  kind_N: tuple[int, ...] = ()  # of each layer; (): all are kinds[0]

  def sharded(self, sharding: FsdpTensorParallel) -> Self:
    """The config of the model that the devices compute together, with copies of
    key heads that they share."""
    copies = max(1, sharding.tensor_parallel // self.kv_heads)
    sharding = dataclasses.replace(sharding, key_copies=copies)
    kv_heads = self.kv_heads * copies
    return dataclasses.replace(self, sharding=sharding, kv_heads=kv_heads)

  @property
  def layer_kinds(self) -> tuple[LayerKind, ...]:
    """The kind of each layer."""
    return tuple(self.kinds[k] for k in self.kind_N or (0,) * self.layers)

  @property
  def rope(self) -> Rope:
    """The position embedding of the layers that have one, if it is the same."""
    settings = {kind.rope for kind in self.kinds if kind.rope}
    assert len(settings) == 1, settings
    return settings.pop()

  @property
  def form(self) -> attention.Form:
    return attention.Form(self.head_dim**-0.5, cpu_layout=self.cpu_layout)

  @property
  def qk_head_dim(self) -> int:
    return self.head_dim

  @property
  def max_tensor_parallel(self) -> int:
    return self.heads

  @property
  def reads_filled_cache(self) -> bool:
    return kernels.can_decode(self, self.head_dim, self.head_dim)

  @property
  def has_sinks(self) -> bool:
    return self.sinks

  def sizes_with(self, ffn: float) -> LayerSizes:
    """The LayerSizes with `ffn` channels of a gated MLP, which may be those of
    several experts."""
    query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
    return LayerSizes(
      heads=self.heads,
      query=query,
      projected=query + 2 * key,
      attended=2 * query,
      attended_in_decode=2 * query,
      ffn=ffn,
      weights=self.width * (2 * query + 2 * key + 3 * ffn),
      cache_arrays=2,
      cache_heads=self.kv_heads,
      cache_channels=self.head_dim,
      windows=tuple(kind.window for kind in self.layer_kinds),
    )


def rope_tables(cfg: GqaConfig, pos_BT: Array) -> list[tuple[Array, Array]]:
  """rope.cos_sin of each kind of layer. Without position embedding all angles
  are 0, of as many channels as in the other layers."""
  settings = [kind.rope for kind in cfg.kinds if kind.rope]
  partial = settings[0].partial if settings else 1.0
  tables, found = [], {}
  for kind in cfg.kinds:
    if kind.rope not in found:
      setting = kind.rope or Rope(partial=partial)
      angle_BT = pos_BT * (kind.rope is not None)
      found[kind.rope] = rope.cos_sin(setting, cfg.head_dim, angle_BT)
    tables.append(found[kind.rope])
  # XLA's CPU backend would compute sines and cosines again in every layer.
  return jax.lax.optimization_barrier(tables) if cfg.cpu_layout else tables


def attend_layer(
  cfg: GqaConfig,
  layer: Layer,
  h_BTD: Array,
  tables: list[tuple[Array, Array]],
  kind: Array | int,
  pos_BT: Array,
  past: Any,
) -> tuple[Array, tuple[Array, ...]]:
  """(this device's part of the sum over heads, keys and values as `attend`
  returns them) of a layer whose kind is cfg.kinds[kind]."""
  dtype = h_BTD.dtype
  D, K, C = cfg.width, cfg.kv_heads, cfg.head_dim
  G = cfg.heads // K
  qkv = layer.product('qkv', h_BTD, (D, K, G + 2, C), D**-0.5)
  if cfg.qkv_bias:
    bias = layer.stored('qkv_bias', (K, G + 2, C), nn.initializers.zeros)
    qkv += bias[None, None]
  q, k, v = jax.lax.split(qkv.astype(dtype), (G, 1, 1), axis=3)
  if cfg.qk_norm:
    q, k = layer.norm('q_norm', q), layer.norm('k_norm', k)
  if cfg.qk_norm_heads:
    q = _norm_heads(layer, 'q_norm_heads', q)
    k = _norm_heads(layer, 'k_norm_heads', k)
  cos_sin = _table(tables, kind)
  q_BTKGC, k = rope.rotate(q, cos_sin), rope.rotate(k, cos_sin)
  k_BKTC, v_BKTC = (a[:, :, :, 0].swapaxes(1, 2) for a in (k, v))
  sink_KG = None
  if cfg.sinks:
    sink_KG = layer.stored('sinks', (K, G), nn.initializers.normal())
  kv = k_BKTC, v_BKTC
  out, cache = attend(cfg, q_BTKGC, kv, kind, pos_BT, past, sink_KG)
  out = out.astype(dtype).reshape(*out.shape[:2], -1)
  std = (2 * cfg.layers * K * G * C) ** -0.5
  out_BTD = layer.product('out', out, (K, G, C, D), std)
  if cfg.out_bias:
    bias_D = layer.stored('out_bias', (D,), nn.initializers.zeros)
    # The devices' parts are summed.
    out_BTD += bias_D[None, None] / cfg.sharding.tensor_parallel
  return out_BTD.astype(dtype), cache


def _norm_heads(layer, name, x):
  """rms_norm of x [B, T, K, G, C] over its last three axes, of which a device
  has a part."""
  cfg, x32 = layer.cfg, x.astype(jnp.float32)
  shape = cfg.kv_heads, *x.shape[3:]
  scale = layer.stored(name, shape, nn.initializers.ones)
  square = jnp.sum(jnp.square(x32), axis=(2, 3, 4), keepdims=True)
  mean = cfg.sharding.sum_over_model(square) / math.prod(shape)
  x32 *= jax.lax.rsqrt(mean + cfg.norm_eps)
  return (x32 * scale[None, None]).astype(x.dtype)


def _table(tables, kind):
  """The table of a kind, which is traced in scanned layers of several kinds."""
  if isinstance(kind, int):
    return tables[kind]
  if all(table is tables[0] for table in tables):
    return tables[0]
  return tuple(jnp.stack(parts)[kind] for parts in zip(*tables))


def attend(
  cfg: GqaConfig,
  q_BTKGC: Array,
  kv_BKTC: attention.KeysValues,
  kind: Array | int,
  pos_BT: Array,
  past: Any,
  sink_KG: Array | None = None,
) -> tuple[Array, tuple[Array, ...]]:
  """(float32 out_BTKGC, keys and values).

  In training and prefill `past` is None: attends over the call's own keys, and
  returns them.

  While decoding with scanned layers: attends over the cache and the token's own
  key, and returns this key. `stack.run` writes those of all layers after the
  last, because a scan that returned each layer's cache would copy it.

  While decoding with unrolled layers: writes the key to the cache, attends over
  it and returns it. If the cache were read before the write, XLA would copy it.
  """
  window = _window(cfg, kind)
  if past is None:
    if cfg.attention != 'einsum':
      return _attend_call(cfg, q_BTKGC, kv_BKTC, kind, pos_BT, sink_KG), kv_BKTC
    if cfg.packing:
      out = packed_attention.attend(
        cfg.packing, cfg.form, q_BTKGC, kv_BKTC, pos_BT, window, sink_KG
      )
      return out, kv_BKTC
    visible_BTS = sequence_packing.visible(cfg, pos_BT, window)
    out = attention.attend(cfg.form, q_BTKGC, kv_BKTC, visible_BTS, sink_KG)
    return out, kv_BKTC
  if cfg.reads_filled_cache and kernels.can_address(cfg.attention, past):
    args = q_BTKGC, kv_BKTC, past, pos_BT, window, cfg.head_dim, sink_KG
    return kernels.decode(cfg, cfg.form, *args)
  pos_B, column_1S = pos_BT[:, 0], jnp.arange(paging.columns(past[0]))[None]
  if cfg.scan_layers:
    before_BTS = attention.visible(pos_BT, column_1S, window)
    before_BTS &= (column_1S < pos_B[:, None])[:, None]
    past_BKSC = paging.rows(past[0]), paging.rows(past[1])
    out = attention.attend_past(
      cfg.form, q_BTKGC, kv_BKTC, past_BKSC, before_BTS, sink_KG
    )
    return out, kv_BKTC
  kv = tuple(
    paging.write(cfg, cache, new, pos_B) for cache, new in zip(past, kv_BKTC)
  )
  visible_BTS = attention.visible(pos_BT, column_1S, window)
  kv_BKSC = paging.rows(kv[0]), paging.rows(kv[1])
  out = attention.attend(cfg.form, q_BTKGC, kv_BKSC, visible_BTS, sink_KG)
  return out, kv


def _window(cfg, kind):
  """The window of a layer, None if no layer of the model has one."""
  windows = [x.window or cfg.max_len for x in cfg.kinds]
  if not any(x.window for x in cfg.kinds):
    return None
  return windows[kind] if isinstance(kind, int) else jnp.array(windows)[kind]


def _attend_call(cfg, q_BTKGC, kv_BKTC, kind, pos_BT, sink_KG):
  """Attention by a kernel over the call's own keys. The window of a kernel is
  static: of a traced kind there is a branch for each."""
  if cfg.packing:
    rows_cfg = dataclasses.replace(cfg, packing=None)

    def attend_rows(q, kv, pos):
      return _attend_call(rows_cfg, q, kv, kind, pos, sink_KG)

    args = cfg.packing, attend_rows, q_BTKGC, kv_BKTC, pos_BT
    return packed_attention.attend_rows(*args)
  kernel = kernels.own_keys(cfg)

  def branch(window):
    return lambda q, kv: kernel(cfg.form, q, kv, pos_BT, window, sink_KG)

  branches = [branch(x.window) for x in cfg.kinds]
  if isinstance(kind, int):
    return branches[kind](q_BTKGC, kv_BKTC)
  return jax.lax.switch(kind, branches, q_BTKGC, kv_BKTC)


def init_cache(cfg: GqaConfig, rows: int, length: int) -> Cache:
  """An empty cache of `length` columns, as stack.run takes and returns it."""
  K = cfg.kv_heads // cfg.sharding.tensor_parallel
  shape = rows, K, length, cfg.head_dim
  return stack.init_cache(cfg, cfg.layers, (shape, shape))
