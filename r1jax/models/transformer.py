"""A decoder-only Transformer: Llama, Qwen2 or Qwen3, depending on its config.

One forward function serves training, prefill and decoding.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.sharding import PartitionSpec as P

from r1jax.models import attention, linear, lm_head, rope
from r1jax.models.model_config import ModelConfig
from r1jax.models.sharding import NoSharding

# 'embed' [V, D], 'norm' [D], 'head' [V, D] unless the embeddings are tied,
# 'score' [D] in reward models, and 'layers' with leaves stacked over N.
Params = dict[str, Any]
# Keys and values of all layers: a pair [N, B, K, S, C], or a tuple of N pairs
# [B, K, S, C] if the layers are not scanned.
Cache = Any

REMAT = dict(
  full=jax.checkpoint_policies.nothing_saveable,
  dots=jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
)

# FSDP over 'data' and tensor parallelism over 'model', by the name of the leaf.
# The optimiser's moments have the same names.
PARTITION = dict(
  embed=P('model', 'data'),
  head=P('model', 'data'),
  qkv=P(None, 'data', 'model', None, None),
  qkv_bias=P(None, 'model'),
  out=P(None, 'model', None, None, 'data'),
  gate_up=P(None, 'data', None, 'model'),
  down=P(None, 'model', 'data'),
)


def rms_norm(x: Array, scale: Array, eps: float) -> Array:
  """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32."""
  x32 = x.astype(jnp.float32)
  mean = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
  scale = jnp.expand_dims(scale, tuple(range(x.ndim - 1)))
  return (x32 * jax.lax.rsqrt(mean + eps) * scale).astype(x.dtype)


class Block(nn.Module):
  """A layer: x + attention(norm(x)), then x + mlp(norm(x))."""

  cfg: ModelConfig

  @nn.compact
  def __call__(
    self, x_BTD: Array, cos_sin: tuple, pos_BT: Array, past: Cache = None
  ) -> tuple[Array, attention.KeysValues]:
    """(x_BTD, keys and values as `_attend` returns them)."""
    sharding = self.cfg.sharding
    h_BTD = sharding.all_gather_tokens(self.norm('norm1', x_BTD))
    h_BTD, kv = self.attention(h_BTD, cos_sin, pos_BT, past)
    x_BTD += sharding.reduce_scatter_tokens(h_BTD)
    h_BTD = sharding.all_gather_tokens(self.norm('norm2', x_BTD))
    return x_BTD + sharding.reduce_scatter_tokens(self.mlp(h_BTD)), kv

  def attention(self, h_BTD, cos_sin, pos_BT, past):
    """(this device's part of the sum over heads, keys and values)."""
    cfg, dtype = self.cfg, h_BTD.dtype
    D, K, C = cfg.width, cfg.kv_heads, cfg.head_dim
    G = cfg.heads // K
    w_qkv = self.weight('qkv', (D, K, G + 2, C), D**-0.5)
    qkv = linear.linear(cfg.cpu_layout, h_BTD, w_qkv)
    if cfg.qkv_bias:
      bias = self.stored('qkv_bias', (K, G + 2, C), nn.initializers.zeros)
      qkv += bias[None, None]
    q, k, v = jax.lax.split(qkv.astype(dtype), (G, 1, 1), axis=3)
    if cfg.qk_norm:
      q, k = self.norm('q_norm', q), self.norm('k_norm', k)
    q_BTKGC, k = rope.rotate(q, cos_sin), rope.rotate(k, cos_sin)
    k_BKTC, v_BKTC = (a[:, :, :, 0].swapaxes(1, 2) for a in (k, v))
    out, kv = _attend(cfg, q_BTKGC, (k_BKTC, v_BKTC), pos_BT, past)
    out = out.astype(dtype).reshape(*out.shape[:2], -1)
    std = (2 * cfg.layers * K * G * C) ** -0.5
    w_out = self.weight('out', (K, G, C, D), std)
    out_BTD = linear.linear(cfg.cpu_layout, out, w_out.reshape(-1, D))
    return out_BTD.astype(dtype), kv

  def mlp(self, h_BTD):
    """(silu(h W_gate) * h W_up) W_down (SwiGLU), over a device's part of F."""
    cfg, dtype = self.cfg, h_BTD.dtype
    D, F = cfg.width, cfg.ffn
    w_gate_up = self.weight('gate_up', (D, 2, F), D**-0.5)
    gate_up = linear.linear(cfg.cpu_layout, h_BTD, w_gate_up)
    gate, up = (a[:, :, 0] for a in jax.lax.split(gate_up, (1, 1), axis=2))
    h_BTF = (jax.nn.silu(gate) * up).astype(dtype)
    w_down = self.weight('down', (F, D), (2 * cfg.layers * F) ** -0.5)
    return linear.linear(cfg.cpu_layout, h_BTF, w_down).astype(dtype)

  def weight(self, name, shape, std):
    """A matrix in cfg.dtype, gathered over 'data'. `shape` is the whole one."""
    cfg, w = self.cfg, self.stored(name, shape, nn.initializers.normal(std))
    w = cfg.sharding.gather_weight(name, w, cfg.dtype)
    assert w.size * cfg.sharding.tensor_parallel == math.prod(shape), name
    return w

  def norm(self, name, x):
    scale = self.stored(name, x.shape[-1:], nn.initializers.ones)
    return rms_norm(x, scale, self.cfg.norm_eps)

  def stored(self, name, shape, initializer):
    """The parameter, or this device's shard of it. Module.param would compare
    the shard's shape with `shape`."""
    if self.is_initializing():
      return self.param(name, initializer, shape)
    return self.get_variable('params', name)


def _attend(cfg, q_BTKGC, kv_BKTC, pos_BT, past):
  """(float32 out_BTKGC, keys and values).

  In training and prefill `past` is None: attends over the call's own keys, and
  returns them.

  While decoding with scanned layers: attends over the cache and the token's own
  key, and returns this key. `forward` writes those of all layers after the
  last, because a scan that returned each layer's cache would copy it.

  While decoding with unrolled layers: writes the key to the cache, attends over
  it and returns it. If the cache were read before the write, XLA would copy it.
  """
  if past is None:
    if cfg.attention == 'splash':
      return attention.splash(q_BTKGC, kv_BKTC, pos_BT), kv_BKTC
    out = attention.attend(cfg.cpu_layout, q_BTKGC, kv_BKTC, pos_BT, pos_BT)
    return out, kv_BKTC
  pos_B = pos_BT[:, 0]
  if cfg.scan_layers:
    k_BKC, v_BKC = (a[:, :, 0] for a in kv_BKTC)
    out = attention.attend_past(q_BTKGC, (k_BKC, v_BKC), past, pos_B)
    return out, (k_BKC, v_BKC)
  k_BKSC, v_BKSC = (
    attention.write(cfg, cache, new[:, :, 0], pos_B)
    for cache, new in zip(past, kv_BKTC)
  )
  pos_BS, kv = jnp.arange(k_BKSC.shape[2])[None], (k_BKSC, v_BKSC)
  return attention.attend(cfg.cpu_layout, q_BTKGC, kv, pos_BT, pos_BS), kv


def init(key: Array, cfg: ModelConfig) -> Params:
  """Random float32 parameters of the whole model."""
  cfg = dataclasses.replace(cfg, sharding=NoSharding())
  x_BTD, pos_BT = jnp.zeros((1, 1, cfg.width)), jnp.zeros((1, 1), jnp.int32)
  cos_sin, shape_VD = rope.cos_sin(cfg, pos_BT), (cfg.vocab_size, cfg.width)

  def init_layer(key):
    return Block(cfg).init(key, x_BTD, cos_sin, pos_BT)['params']

  def normal_VD(number):
    return jax.random.normal(jax.random.fold_in(key, number), shape_VD)

  key_N = jax.random.split(jax.random.fold_in(key, 0), cfg.layers)
  params = dict(
    embed=normal_VD(1) * cfg.width**-0.5,
    layers=jax.vmap(init_layer)(key_N),
    norm=jnp.ones(cfg.width),
  )
  if not cfg.tie_embeddings:
    params['head'] = normal_VD(2) * cfg.width**-0.5
  if cfg.score:
    params['score'] = jnp.zeros(cfg.width)
  return params


def init_cache(cfg: ModelConfig, rows: int, length: int) -> Cache:
  """An empty cache of `length` columns, as forward takes and returns it."""
  K = cfg.kv_heads // cfg.sharding.tensor_parallel
  shape = rows, K, length, cfg.head_dim

  def zeros(*shape):
    return jnp.zeros(shape, cfg.dtype), jnp.zeros(shape, cfg.dtype)

  if cfg.scan_layers:
    return zeros(cfg.layers, *shape)
  return tuple(zeros(*shape) for _ in range(cfg.layers))


def with_score(params: Params, cfg: ModelConfig) -> tuple[Params, ModelConfig]:
  """The reward model that starts from a policy, and its config: it has a score
  head of zeros instead of a head for tokens."""
  params = {name: leaf for name, leaf in params.items() if name != 'head'}
  params['score'] = jnp.zeros(cfg.width)
  return params, dataclasses.replace(cfg, tie_embeddings=True, score=True)


def positions(mask_BL: Array) -> Array:
  """0, 1, 2, ... on the real tokens of each row, -1 elsewhere."""
  mask = mask_BL.astype(jnp.int32)
  return jnp.where(mask > 0, jnp.cumsum(mask, axis=1) - 1, -1)


def unstack(params: Params, cfg: ModelConfig) -> Params:
  """The parameters with 'layers' as a tuple of N trees, for unrolled layers."""
  leaves, tree = jax.tree.flatten(params['layers'])
  parts = []
  for leaf in leaves:
    split = jax.lax.split(leaf, (1,) * cfg.layers, axis=0)
    parts.append([part[0] for part in split])
  layers = tuple(jax.tree.unflatten(tree, layer) for layer in zip(*parts))
  return params | dict(layers=layers)


def for_decoding(
  params: Params, cfg: ModelConfig
) -> tuple[Params, ModelConfig]:
  """(params, cfg) for a decode loop: matrices are gathered over 'data' and cast
  to cfg.dtype once; layers that are not scanned are unstacked."""

  def gather(tree):
    matrices = {}
    for name, leaf in tree.items():
      if 'data' in PARTITION.get(name, ()):
        matrices[name] = cfg.sharding.gather_weight(name, leaf, cfg.dtype)
    return tree | matrices

  params = gather(params) | dict(layers=gather(params['layers']))
  if not cfg.scan_layers:
    params = unstack(params, cfg)
  return params, decoding_config(cfg)


def decoding_config(cfg: ModelConfig) -> ModelConfig:
  """The config of parameters that are gathered over 'data'."""
  sharding = dataclasses.replace(cfg.sharding, fsdp_axes=())
  return dataclasses.replace(cfg, sharding=sharding)


def forward(
  params: Params,
  cfg: ModelConfig,
  tokens_BT: Array,
  pos_BT: Array,
  past: Cache = None,
) -> tuple[Array, Cache]:
  """(hidden_BTD after the last norm, keys and values).

  A key is visible iff 0 <= pos_key <= pos_query; padding has position -1.
  Without `past` keys and values are those of the call, with S = T. With `past`,
  a cache in which the column of a key is its position, T must be 1; the result
  is the cache with this token's keys and values.
  """
  sharding = cfg.sharding.for_tokens(tokens_BT.shape[1])
  cfg = dataclasses.replace(cfg, sharding=sharding)
  x_BTD = sharding.embed_tokens(params['embed'], tokens_BT, cfg.dtype)
  cos_sin = rope.cos_sin(cfg, pos_BT)

  def block(x_BTD, layer, past):
    variables = dict(params=layer)
    return Block(cfg).apply(variables, x_BTD, cos_sin, pos_BT, past)

  if cfg.remat != 'none':
    block = jax.checkpoint(block, policy=REMAT[cfg.remat])

  layers = params['layers']
  if cfg.scan_layers:
    x_BTD, kv = jax.lax.scan(lambda x, a: block(x, *a), x_BTD, (layers, past))
    if past is not None:
      kv = tuple(
        attention.write_layers(cfg.tpu_layout, cache, new, pos_BT[:, 0])
        for cache, new in zip(past, kv)
      )
  else:
    if isinstance(layers, dict):
      layers = unstack(params, cfg)['layers']
    past_N = (None,) * cfg.layers if past is None else past
    kv = ()
    for layer, layer_past in zip(layers, past_N):
      x_BTD, layer_kv = block(x_BTD, layer, layer_past)
      kv += (layer_kv,)
  hidden_BTD = rms_norm(x_BTD, params['norm'], cfg.norm_eps)
  return sharding.all_gather_tokens(hidden_BTD), kv


def unembed(params: Params, cfg: ModelConfig, hidden_BTD: Array) -> Array:
  """float32 logits_BTV over the whole vocabulary; ids from cfg.real_vocab on
  get lm_head.MASKED_LOGIT."""
  name = cfg.table_name
  table_VD = cfg.sharding.gather_weight(name, params[name], cfg.dtype)
  logits = lm_head.logits(cfg, hidden_BTD, table_VD)
  return cfg.sharding.all_gather_vocab(logits)


def logprobs(
  params: Params,
  cfg: ModelConfig,
  tokens_BL: Array,
  pos_BL: Array,
  temperature: float = 1.0,
) -> tuple[Array, Array]:
  """(logp_BL, entropy_BL) under softmax(logits / temperature), float32.

  Column t is log p(token t | tokens before t), and the entropy of that
  distribution. Both are 0 in the first column of a row and on padding. The
  [B, L, V] logits exist for cfg.head_chunk columns at a time, in the backward
  pass too. Both results are differentiable.
  """
  hidden, _ = forward(params, cfg, tokens_BL, pos_BL)
  table_VD, pad = params[cfg.table_name], ((0, 0), (1, 0))
  logp, entropy = lm_head.token_logprobs(
    cfg, temperature, hidden[:, :-1], table_VD, tokens_BL[:, 1:]
  )
  has_logp_BL = pos_BL > 0
  return jnp.pad(logp, pad) * has_logp_BL, jnp.pad(entropy, pad) * has_logp_BL


def scores(
  params: Params, cfg: ModelConfig, tokens_BL: Array, pos_BL: Array
) -> Array:
  """float32 score_B: the hidden state of each row's last token times
  params['score']; 0 for a row without tokens."""
  hidden_BLD, _ = forward(params, cfg, tokens_BL, pos_BL)
  last_B11 = jnp.argmax(pos_BL, axis=1)[:, None, None]
  hidden_BD = jnp.take_along_axis(hidden_BLD, last_B11, axis=1)[:, 0]
  score_B = jnp.sum(hidden_BD * params['score'][None], axis=1)
  return jnp.where(pos_BL.max(axis=1) >= 0, score_B, 0)
