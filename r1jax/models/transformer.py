"""A decoder-only Transformer (Llama, Qwen2, Qwen3 by config): one forward
function for training, prefill and decoding.

Letters of shapes: B rows, T tokens of a call, S keys, L tokens of a whole row,
N layers, D width, K key heads, G query heads a key head, C channels a head,
F feed-forward width, V vocabulary.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from r1jax.models import attention, linear, lm_head, rope
from r1jax.models.sharding import FsdpTensorParallel, NoSharding


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  vocab_size: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  ffn: int
  rope_theta: float = 10000.0
  rope_scaling: rope.Scaling | None = None
  norm_eps: float = 1e-6
  tie_embeddings: bool = True
  qkv_bias: bool = False
  qk_norm: bool = False
  max_len: int = 32768
  score: bool = False  # a reward model: params['score'] gives a number a row
  # How it is computed, not what it is:
  real_vocab: int = 0  # ids from here on are padding of the vocabulary; 0: none
  dtype: str = 'float32'  # of the matrix products
  scan_layers: bool = True
  remat: str = 'none'
  head_chunk: int = 128  # columns whose logits exist at one time
  attention: str = 'einsum'  # or 'splash', the kernel of TPUs
  cpu_layout: bool = False
  sharding: NoSharding | FsdpTensorParallel = NoSharding()


def rms_norm(x, scale, eps):
  """x / sqrt(mean(x^2) + eps) * scale, in float32."""
  x32 = x.astype(jnp.float32)
  mean = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
  scale = jnp.expand_dims(scale, tuple(range(x.ndim - 1)))
  return (x32 * jax.lax.rsqrt(mean + eps) * scale).astype(x.dtype)


class Block(nn.Module):
  """x + attention(norm(x)), then x + ffn(norm(x)); returns (x, (k, v))."""

  cfg: ModelConfig

  def stored(self, name, shape, init):
    # param() would check the parts of a sharding against the shape of the whole.
    if self.is_initializing():
      return self.param(name, init, shape)
    return self.get_variable('params', name)

  def weight(self, name, shape, std):
    c, w = self.cfg, self.stored(name, shape, nn.initializers.normal(std))
    w = c.sharding.weight(name, w, c.dtype)
    assert w.size * c.sharding.model == math.prod(shape), (
      f'{name}: another split'
    )
    return w

  def scale(self, name, size):
    return self.stored(name, (size,), nn.initializers.ones)

  @nn.compact
  def __call__(self, x_BTD, turns, pos_BT, past=None):
    c = self.cfg
    D, K, C, F = c.width, c.kv_heads, c.head_dim, c.ffn
    G = c.heads // c.kv_heads
    dot = functools.partial(linear.linear, c.cpu_layout)
    write = functools.partial(attention.write, c.cpu_layout)
    attend = functools.partial(attention.attend, c.cpu_layout)
    if c.attention == 'splash' and past is None:
      attend = attention.splash

    h = rms_norm(x_BTD, self.scale('norm1', D), c.norm_eps)
    h = c.sharding.enter(h)
    qkv = dot(h, self.weight('qkv', (D, K, G + 2, C), D**-0.5))
    if c.qkv_bias:
      bias = self.stored('qkv_bias', (K, G + 2, C), nn.initializers.zeros)
      qkv += bias[None, None]
    q, k, v = jax.lax.split(qkv.astype(x_BTD.dtype), (G, 1, 1), axis=3)
    if c.qk_norm:
      q = rms_norm(q, self.scale('q_norm', C), c.norm_eps)
      k = rms_norm(k, self.scale('k_norm', C), c.norm_eps)
    q_BTKGC, k_BTKC = rope.rotate(q, turns), rope.rotate(k, turns)[:, :, :, 0]
    k_BKSC, v_BKSC = k_BTKC.swapaxes(1, 2), v[:, :, :, 0].swapaxes(1, 2)
    kv, pos_BS, pos_B = (k_BKSC, v_BKSC), pos_BT, pos_BT[:, 0]
    if past is None:
      o = attend(q_BTKGC, *kv, pos_BT, pos_BS)
    elif c.scan_layers:  # All layers are written at once, after the last.
      kv = k_BKSC[:, :, 0], v_BKSC[:, :, 0]
      o = attention.attend_past(q_BTKGC, *kv, *past, pos_B)
    else:
      kv = tuple(write(a, new[:, :, 0], pos_B) for a, new in zip(past, kv))
      pos_BS = jnp.arange(kv[0].shape[2])[None]
      o = attend(q_BTKGC, *kv, pos_BT, pos_BS)
    o = o.astype(x_BTD.dtype)
    o = o.reshape(*o.shape[:2], -1)
    out = self.weight('out', (K, G, C, D), (2 * c.layers * K * G * C) ** -0.5)
    o = dot(o, out.reshape(-1, D)).astype(x_BTD.dtype)
    x_BTD += c.sharding.leave(o)

    h = rms_norm(x_BTD, self.scale('norm2', D), c.norm_eps)
    h = c.sharding.enter(h)
    h = dot(h, self.weight('gate_up', (D, 2, F), D**-0.5))
    gate, up = (a[:, :, 0] for a in jax.lax.split(h, (1, 1), axis=2))
    h = (jax.nn.silu(gate) * up).astype(x_BTD.dtype)
    down = self.weight('down', (F, D), (2 * c.layers * F) ** -0.5)
    x_BTD += c.sharding.leave(dot(h, down).astype(x_BTD.dtype))
    return x_BTD, kv


def init(key, cfg):
  """Fresh float32 parameters; the leaves of 'layers' are stacked over N."""
  cfg = dataclasses.replace(cfg, sharding=NoSharding())
  x_BTD, pos_BT = jnp.zeros((1, 1, cfg.width)), jnp.zeros((1, 1), jnp.int32)

  def block(k):
    return Block(cfg).init(k, x_BTD, rope.angles(cfg, pos_BT), pos_BT)

  def normal(i):
    return jax.random.normal(
      jax.random.fold_in(key, i), (cfg.vocab_size, cfg.width)
    )

  keys = jax.random.split(jax.random.fold_in(key, 0), cfg.layers)
  params = dict(
    embed=normal(1) * cfg.width**-0.5,
    layers=jax.vmap(block)(keys)['params'],
    norm=jnp.ones(cfg.width),
  )
  if not cfg.tie_embeddings:
    params |= dict(head=normal(2) * cfg.width**-0.5)
  return params | dict(score=jnp.zeros(cfg.width)) if cfg.score else params


def with_score(params, cfg):
  """The reward model that a policy begins as, and its config: a score head of
  zeros, and no head for words."""
  params = {name: a for name, a in params.items() if name != 'head'}
  return (
    params | dict(score=jnp.zeros(cfg.width)),
    dataclasses.replace(cfg, tie_embeddings=True, score=True),
  )


def positions(mask_BL):
  """0, 1, 2, ... on the real tokens of each row, -1 elsewhere."""
  mask = mask_BL.astype(jnp.int32)
  return jnp.where(mask > 0, jnp.cumsum(mask, axis=1) - 1, -1)


def unstack(params, cfg):
  """The same parameters, each layer by itself: what unrolled layers read."""

  def split(a):
    return [x[0] for x in jax.lax.split(a, (1,) * cfg.layers, axis=0)]

  leaves, tree = jax.tree.flatten(params['layers'])
  rows = zip(*(split(a) for a in leaves))
  return params | dict(layers=tuple(tree.unflatten(row) for row in rows))


def for_decoding(params, cfg):
  """(params, cfg) as the decode loop reads them: weights whole over 'data', in
  cfg.dtype but for the norms, unstacked where the layers are unrolled."""

  def weight(name, a):
    return cfg.sharding.weight(name, a, cfg.dtype)

  layers = {
    name: a if 'norm' in name or 'bias' in name else weight(name, a)
    for name, a in params['layers'].items()
  }
  tables = {
    name: weight(name, params[name])
    for name in ('embed', 'head')
    if name in params
  }
  params = params | tables | dict(layers=layers)
  cfg = dataclasses.replace(cfg, sharding=cfg.sharding.whole())
  return params if cfg.scan_layers else unstack(params, cfg), cfg


def forward(params, cfg, tokens_BT, pos_BT, past=None):
  """Hidden states before the head, and keys and values.

  A key is visible iff 0 <= pos_key <= pos_query, and padding has position -1:
  that rule is causality, padding on either side and the empty cache in one.
  Without `past` the keys are those of the call itself; kv comes back as
  ([N, B, K, T, C], the same). With `past`, a cache in which a key's column is
  its position, T must be 1: the token sees its own key too, and kv is the cache
  with it. With cfg.scan_layers false kv is a tuple of N pairs.
  """
  sharding = cfg.sharding.along(tokens_BT.shape[1])
  cfg = dataclasses.replace(cfg, sharding=sharding)
  x_BTD = sharding.lookup(params['embed'], tokens_BT, cfg.dtype)
  turns = rope.angles(cfg, pos_BT)

  def block(x, layer, past):
    return Block(cfg).apply({'params': layer}, x, turns, pos_BT, past)

  if cfg.remat != 'none':
    block = jax.checkpoint(block, policy=REMAT[cfg.remat])
  if cfg.scan_layers:

    def body(x, xs):
      return block(x, *xs)

    x_BTD, kv = jax.lax.scan(body, x_BTD, (params['layers'], past))
    if past is not None:

      def write(a, new):
        return attention.write_layers(a, new, pos_BT[:, 0])

      kv = jax.tree.map(write, past, kv)
  else:
    layers = params['layers']
    if isinstance(layers, dict):
      layers = unstack(params, cfg)['layers']
    kv = []
    for layer, old in zip(layers, past or (None,) * cfg.layers):
      x_BTD, new = block(x_BTD, layer, old)
      kv.append(new)
    kv = tuple(kv)
  return sharding.enter(rms_norm(x_BTD, params['norm'], cfg.norm_eps)), kv


def table(cfg):
  """The name of the head's [V, D] matrix: the embedding where it is tied."""
  return 'embed' if cfg.tie_embeddings else 'head'


def unembed(params, cfg, hidden_BTD):
  """float32 logits; the padding of the vocabulary gets head.HIDDEN."""
  name = table(cfg)
  table_VD = cfg.sharding.weight(name, params[name], cfg.dtype)
  return cfg.sharding.all_ids(
    lm_head.logits(cfg.sharding, hidden_BTD, table_VD, cfg.real_vocab)
  )


def logprobs(params, cfg, tokens_BL, pos_BL, temperature=1.0):
  """(logp_BL, entropy_BL) under logits / temperature, float32.

  Column t is log p(token t | tokens before t); it is 0 in the first column of
  a row and on padding. The [B, L, V] logits exist for cfg.head_chunk columns
  at a time, in the backward pass too. entropy_BL[t] is that of the
  distribution which token t was drawn from; it passes no gradient.
  """
  hidden_BTD, _ = forward(params, cfg, tokens_BL, pos_BL)
  how = lm_head.How(
    cfg.sharding,
    table(cfg),
    cfg.dtype,
    float(temperature),
    cfg.real_vocab,
    cfg.cpu_layout,
  )
  logp, entropy = lm_head.token_logprobs(
    how,
    cfg.head_chunk,
    hidden_BTD[:, :-1],
    params[table(cfg)],
    tokens_BL[:, 1:],
  )
  known_BL = pos_BL > 0
  pad = functools.partial(jnp.pad, pad_width=((0, 0), (1, 0)))
  return pad(logp) * known_BL, pad(entropy) * known_BL


def scores(params, cfg, tokens_BL, pos_BL):
  """float32 score_B: the last token's hidden state times params['score']; 0 for
  a row without tokens."""
  hidden_BLD, _ = forward(params, cfg, tokens_BL, pos_BL)
  last_B11 = jnp.argmax(pos_BL, axis=1)[:, None, None]
  hidden_BD = jnp.take_along_axis(hidden_BLD, last_B11, axis=1)[:, 0]
  score_B = jnp.sum(hidden_BD * params['score'][None], axis=1)
  return jnp.where(pos_BL.max(axis=1) >= 0, score_B, 0)


REMAT = dict(
  full=jax.checkpoint_policies.nothing_saveable,
  dots=jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
)

# FSDP over 'data' and tensor parallelism over 'model', by the leaf's name. The
# optimiser's moments bear the same names.
PARTITION = dict(
  embed=P('model', 'data'),
  head=P('model', 'data'),
  qkv=P(None, 'data', 'model', None, None),
  qkv_bias=P(None, 'model'),
  out=P(None, 'model', None, None, 'data'),
  gate_up=P(None, 'data', None, 'model'),
  down=P(None, 'model', 'data'),
)
