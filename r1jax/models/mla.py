"""Multi-head latent attention (MLA, arXiv:2405.04434): its config and its layer;
hf_attention.py has its tensors in checkpoints.

Keys and values of all heads are products of one latent vector a token. Only the
latent and one rotary key, which all heads share, are cached.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.sharding import PartitionSpec as P

from r1jax.models import (
  attention,
  kernels,
  linear,
  packed_attention,
  paging,
  rope,
  sequence_packing,
  stack,
)
from r1jax.models.layer import Layer, rms_norm
from r1jax.models.model_config import LayerSizes, ModelConfig
from r1jax.models.rope import Rope, YarnScaling
from r1jax.models.stack import Cache

# Heads are sharded over 'model', the products that give the latents are not.
# 'out' has the axes of gqa.PARTITION.
PARTITION = dict(
  q=P(None, 'data', 'model', None),
  q_a=P(None, 'data', None),
  q_b=P(None, 'data', 'model', None),
  kv_a=P(None, 'data', None),
  kv_b=P(None, 'data', 'model', None),
  out=P(None, 'model', None, None, 'data'),
)
LATENT_EPS = 1e-6  # of the latents' norms, whatever the config's rms_norm_eps


@dataclasses.dataclass(frozen=True, kw_only=True)
class MlaConfig(ModelConfig):
  heads: int
  q_lora_rank: int = 0  # channels of the queries' latent; 0: they have none
  kv_lora_rank: int
  qk_nope_head_dim: int  # channels of a head that are not rotated
  qk_rope_head_dim: int  # and those that are
  v_head_dim: int
  rope: Rope = Rope()
  rope_interleave: bool = True  # the checkpoint pairs channels 2i and 2i + 1
  absorbed: bool = True  # while decoding; does not change the function

  @property
  def qk_head_dim(self) -> int:
    return self.qk_nope_head_dim + self.qk_rope_head_dim

  @property
  def form(self) -> attention.Form:
    """The scores' scale is C^(-1/2) m^2, with YaRN's m of mscale_all_dim."""
    m, scaling = 1.0, self.rope.scaling
    if isinstance(scaling, YarnScaling) and scaling.mscale_all_dim:
      m = rope.yarn_mscale(scaling.factor, scaling.mscale_all_dim)
    return attention.Form(
      self.qk_head_dim**-0.5 * m * m, cpu_layout=self.cpu_layout
    )

  @property
  def max_tensor_parallel(self) -> int:
    return self.heads

  @property
  def cache_channels(self) -> int:
    """Numbers that the cache of a layer holds of a token."""
    return self.kv_lora_rank + self.qk_rope_head_dim

  @property
  def reads_filled_cache(self) -> bool:
    widths = self.cache_channels, self.kv_lora_rank
    return self.absorbed and kernels.can_decode(self, *widths)

  def sizes_with(self, ffn: float) -> LayerSizes:
    """The LayerSizes with `ffn` channels of a gated MLP, which may be those of
    several experts."""
    H, C = self.heads, self.v_head_dim
    attended = H * (self.qk_head_dim + C)
    absorbed = 2 * H * self.cache_channels
    shapes = weight_shapes(self)
    # The products that give the latents, on every device of 'model'.
    latents = [shape for name, shape in shapes.items() if name.endswith('_a')]
    replicated = sum(map(math.prod, latents))
    weights = sum(map(math.prod, shapes.values())) - replicated
    return LayerSizes(
      heads=H,
      query=H * self.qk_head_dim,
      projected=attended + H * self.qk_nope_head_dim + self.cache_channels,
      attended=attended,
      attended_in_decode=absorbed if self.absorbed else attended,
      ffn=ffn,
      weights=weights + 3 * self.width * ffn,
      replicated=replicated,
      cache_arrays=1,
      cache_heads=1,
      cache_channels=self.cache_channels,
      cache_is_sharded=False,
    )


def weight_shapes(cfg: MlaConfig) -> dict[str, tuple[int, ...]]:
  """The shapes of a layer's matrices, of the whole model."""
  D, H, R, Q = cfg.width, cfg.heads, cfg.kv_lora_rank, cfg.q_lora_rank
  heads = H, cfg.qk_head_dim
  queries = dict(q_a=(D, Q), q_b=(Q, *heads)) if Q else dict(q=(D, *heads))
  return queries | dict(
    kv_a=(D, cfg.cache_channels),
    kv_b=(R, H, cfg.qk_nope_head_dim + cfg.v_head_dim),
    out=(H, 1, cfg.v_head_dim, D),
  )


def rope_table(cfg: MlaConfig, pos_BT: Array) -> tuple[Array, Array]:
  """rope.cos_sin of the rotated channels."""
  table = rope.cos_sin(cfg.rope, cfg.qk_rope_head_dim, pos_BT)
  # As in gqa.rope_tables.
  return jax.lax.optimization_barrier(table) if cfg.cpu_layout else table


def attend_layer(
  cfg: MlaConfig,
  layer: Layer,
  h_BTD: Array,
  cos_sin: tuple[Array, Array],
  pos_BT: Array,
  past: Any,
) -> tuple[Array, tuple[Array, ...]]:
  """(this device's part of the sum over heads, the latents as `attend` returns
  them)."""
  dtype = h_BTD.dtype
  q_BTHC = _queries(cfg, layer, h_BTD, cos_sin)
  latent_BTR = _latents(cfg, layer, h_BTD, cos_sin)
  w_RHC = _weight(cfg, layer, 'kv_b')
  out, cache = attend(cfg, w_RHC, q_BTHC, latent_BTR, pos_BT, past)
  out = out.astype(dtype).reshape(*out.shape[:2], -1)
  shape = weight_shapes(cfg)['out']
  std = (2 * cfg.layers * cfg.heads * cfg.v_head_dim) ** -0.5
  w_out = layer.weight('out', shape, std).reshape(-1, cfg.width)
  out_BTD = linear.linear(cfg.cpu_layout, out, w_out)
  return out_BTD.astype(dtype), cache


def _weight(cfg, layer, name):
  shape = weight_shapes(cfg)[name]
  return layer.weight(name, shape, shape[0] ** -0.5)


def _queries(cfg, layer, h_BTD, cos_sin):
  """q_BTHC: channels that are not rotated, then rotated ones."""
  dtype = h_BTD.dtype
  if cfg.q_lora_rank:
    c_BTR = linear.linear(cfg.cpu_layout, h_BTD, _weight(cfg, layer, 'q_a'))
    c_BTR = _norm(layer, 'q_a_norm', c_BTR).astype(dtype)
    q_BTHC = linear.linear(cfg.cpu_layout, c_BTR, _weight(cfg, layer, 'q_b'))
  else:
    q_BTHC = linear.linear(cfg.cpu_layout, h_BTD, _weight(cfg, layer, 'q'))
  nope, rotary = jnp.split(q_BTHC, (cfg.qk_nope_head_dim,), axis=-1)
  q_BTHC = jnp.concatenate([nope, rope.rotate(rotary, cos_sin)], axis=-1)
  return q_BTHC.astype(dtype)


def _latents(cfg, layer, h_BTD, cos_sin):
  """What is cached of a token: the latent after its norm, then the rotary key
  after its rotation."""
  latent = linear.linear(cfg.cpu_layout, h_BTD, _weight(cfg, layer, 'kv_a'))
  latent, key = jnp.split(latent, (cfg.kv_lora_rank,), axis=-1)
  latent = _norm(layer, 'kv_a_norm', latent)
  parts = latent, rope.rotate(key, cos_sin)
  return jnp.concatenate(parts, axis=-1).astype(h_BTD.dtype)


def _norm(layer, name, x):
  scale = layer.stored(name, x.shape[-1:], nn.initializers.ones)
  return rms_norm(x, scale, LATENT_EPS)


def attend(
  cfg: MlaConfig,
  w_RHC: Array,
  q_BTHC: Array,
  latent_BTR: Array,
  pos_BT: Array,
  past: Any,
) -> tuple[Array, tuple[Array, ...]]:
  """(float32 out_BTHC, latents [B, 1, T, R]), or what else gqa.attend returns
  in their place.

  Training and prefill attend with the expanded keys and values of all heads,
  and so does decoding without cfg.absorbed. With it, decoding attends to the
  latents themselves.
  """
  new_B1TR = latent_BTR[:, None]
  if past is None:
    return _attend_call(cfg, w_RHC, q_BTHC, new_B1TR, pos_BT), (new_B1TR,)
  if cfg.reads_filled_cache and kernels.can_address(cfg.attention, past):
    q_BT1HR = _absorbed_queries(cfg, w_RHC, q_BTHC)
    args = q_BT1HR, (new_B1TR,), past, pos_BT, None, cfg.kv_lora_rank
    u, cache = kernels.decode(cfg, cfg.form, *args)
    return _absorbed_values(cfg, w_RHC, u, q_BTHC.dtype), cache
  (cache,), pos_B = past, pos_BT[:, 0]
  column_1S = jnp.arange(paging.columns(cache))[None]
  visible_BTS = attention.visible(pos_BT, column_1S)
  if cfg.scan_layers and cfg.absorbed:
    before_BTS = visible_BTS & (column_1S < pos_B[:, None])[:, None]
    q_BT1HR = _absorbed_queries(cfg, w_RHC, q_BTHC)
    past_B1SR = paging.rows(cache)
    new, old = (new_B1TR, new_B1TR), (past_B1SR, past_B1SR)
    u = attention.attend_past(cfg.form, q_BT1HR, new, old, before_BTS)
    return _absorbed_values(cfg, w_RHC, u, q_BTHC.dtype), (new_B1TR,)
  cache = paging.write(cfg, cache, new_B1TR, pos_B)
  latent_B1SR = paging.rows(cache)
  if not cfg.absorbed:
    out = _attend_expanded(cfg, w_RHC, q_BTHC, latent_B1SR, visible_BTS)
    # For scanned layers stack.run writes to the cache; `cache` is a copy.
    return out, (new_B1TR if cfg.scan_layers else cache,)
  q_BT1HR = _absorbed_queries(cfg, w_RHC, q_BTHC)
  u = attention.attend(cfg.form, q_BT1HR, (latent_B1SR,) * 2, visible_BTS)
  return _absorbed_values(cfg, w_RHC, u, q_BTHC.dtype), (cache,)


def _attend_call(cfg, w_RHC, q_BTHC, latent_B1TR, pos_BT):
  """out_BTHC over the call's own keys."""
  is_einsum = cfg.attention == 'einsum'
  if is_einsum and not cfg.packing:
    visible_BTS = sequence_packing.visible(cfg, pos_BT)
    return _attend_expanded(cfg, w_RHC, q_BTHC, latent_B1TR, visible_BTS)
  kv = _expanded(cfg, w_RHC, latent_B1TR)
  q_BTKGC = q_BTHC[:, :, :, None]
  if is_einsum:
    args = cfg.packing, cfg.form, q_BTKGC, kv, pos_BT
    return packed_attention.attend(*args)[:, :, :, 0]

  def kernel(q, kv, pos):
    return kernels.own_keys(cfg)(cfg.form, q, kv, pos)

  if cfg.packing:
    args = cfg.packing, kernel, q_BTKGC, kv, pos_BT
    return packed_attention.attend_rows(*args)[:, :, :, 0]
  return kernel(q_BTKGC, kv, pos_BT)[:, :, :, 0]


def _attend_expanded(cfg, w_RHC, q_BTHC, latent_B1SR, visible_BTS):
  """out_BTHC of attention with a key and a value of each head."""
  kv, T = _expanded(cfg, w_RHC, latent_B1SR), q_BTHC.shape[1]
  if cfg.cpu_layout and T == 1:
    # XLA's CPU backend adds up the products of a single row in another order than
    # those of several, as which the trainer has them.
    q_BTHC, visible_BTS = (
      jnp.concatenate([x, x], axis=1) for x in (q_BTHC, visible_BTS)
    )
  q_BTKGC = q_BTHC[:, :, :, None]
  return attention.attend(cfg.form, q_BTKGC, kv, visible_BTS)[:, :T, :, 0]


def _expanded(cfg, w_RHC, latent_B1SR):
  """(keys, values) [B, H, S, C] of latents: key = (W_k c, rotary key), value =
  W_v c."""
  c_BSR, rotary_BSC = jnp.split(latent_B1SR[:, 0], (cfg.kv_lora_rank,), axis=-1)
  kv_BSHC = linear.linear(cfg.cpu_layout, c_BSR, w_RHC).astype(c_BSR.dtype)
  nope, v_BSHC = jnp.split(kv_BSHC, (cfg.qk_nope_head_dim,), axis=-1)
  shape = *nope.shape[:-1], cfg.qk_rope_head_dim
  rotary = jnp.broadcast_to(rotary_BSC[:, :, None], shape)
  k_BSHC = jnp.concatenate([nope, rotary], axis=-1)
  return k_BSHC.swapaxes(1, 2), v_BSHC.swapaxes(1, 2)


def _absorbed_queries(cfg, w_RHC, q_BTHC):
  """(W_k' q, rotary query) of each head, as queries of the one key head whose
  keys are the latents: q . W_k c = W_k' q . c."""
  w_k, _ = jnp.split(w_RHC, (cfg.qk_nope_head_dim,), axis=-1)
  nope, rotary = jnp.split(q_BTHC, (cfg.qk_nope_head_dim,), axis=-1)
  q_BTHR = linear.product('bthc,rhc->bthr', nope, w_k).astype(q_BTHC.dtype)
  return jnp.concatenate([q_BTHR, rotary], axis=-1)[:, :, None]


def _absorbed_values(cfg, w_RHC, u_BT1HR, dtype):
  """W_v u of each head, for u = sum p c over the keys. A product without a kernel
  has taken all channels of the cache, because a slice of it would be a copy; the
  last, rotary ones are dropped."""
  _, w_v = jnp.split(w_RHC, (cfg.qk_nope_head_dim,), axis=-1)
  u_BTHR = u_BT1HR[:, :, 0, :, : cfg.kv_lora_rank].astype(dtype)
  return linear.product('bthr,rhc->bthc', u_BTHR, w_v)


def init_cache(cfg: MlaConfig, layers: int, rows: int, length: int) -> Cache:
  """An empty cache of `length` columns, as stack.run takes and returns it. It
  is not sharded over 'model': each device's heads need all latents."""
  shape = rows, 1, length, cfg.cache_channels
  return stack.init_cache(cfg, layers, (shape,))
