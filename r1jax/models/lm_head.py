"""Log-probabilities of given tokens and entropies, from hidden states.

The [B, T, V] logits are never materialised: forward and backward compute them
for a chunk of columns at a time.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import linear
from r1jax.models.model_config import ModelConfig

MASKED_LOGIT = -1e30  # of the ids that pad the vocabulary


def logits(cfg: ModelConfig, hidden: Array, table_VD: Array) -> Array:
  """z = hidden[..., D] @ table' in float32, or cap tanh(z / cap) with cap =
  cfg.logit_softcap, for the ids of this device's shard.

  Ids from cfg.real_vocab on get MASKED_LOGIT.
  """
  axes = ((hidden.ndim - 1,), (1,)), ((), ())
  rows = linear.single_row_twice(hidden) if cfg.cpu_layout else hidden
  out = jax.lax.dot_general(
    rows,
    table_VD,
    axes,
    linear.precision(hidden),
    preferred_element_type=jnp.float32,
  )
  out = out[: len(hidden)]
  if cfg.logit_softcap:
    out = cfg.logit_softcap * jnp.tanh(out / cfg.logit_softcap)
  V, sharding = table_VD.shape[0], cfg.sharding
  if cfg.real_vocab and cfg.real_vocab < V * sharding.tensor_parallel:
    real = jnp.arange(V) + sharding.first_index(V) < cfg.real_vocab
    real = jnp.expand_dims(real, tuple(range(out.ndim - 1)))
    out = jnp.where(real, out, MASKED_LOGIT)
  return out


def token_logprobs(
  cfg: ModelConfig,
  temperature: float,
  hidden_BTD: Array,
  table_VD: Array,
  target_BT: Array,
) -> tuple[Array, Array]:
  """(log p(target)_BT, entropy_BT) of p = softmax(hidden table' / temperature).

  table_VD is the parameter cfg.table_name, or this device's shard of it. It is
  gathered once forward and once backward; its gradient is reduced once, in
  float32, after the last chunk.
  """
  B, T, _ = hidden_BTD.shape
  chunk = min(cfg.head_chunk, T)
  count = -(-T // chunk)

  def split(a):
    padding = ((0, 0), (0, count * chunk - T)) + ((0, 0),) * (a.ndim - 2)
    chunks = jnp.pad(a, padding).reshape(B, count, chunk, *a.shape[2:])
    return chunks.swapaxes(0, 1)

  logp_NBT, entropy_NBT = _chunk_logprobs(
    cfg, temperature, split(hidden_BTD), table_VD, split(target_BT)
  )
  logp_BT = logp_NBT.swapaxes(0, 1).reshape(B, -1)[:, :T]
  return logp_BT, entropy_NBT.swapaxes(0, 1).reshape(B, -1)[:, :T]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _chunk_logprobs(cfg, temperature, hidden_NBTD, table_VD, target_NBT):
  """token_logprobs of N chunks of T columns."""
  shard_VD, id_NBT = _shard(cfg, table_VD, target_NBT)

  def chunk_logprobs(chunk):
    scores_BTV, lse_BT, logp_BT = _scores(cfg, temperature, shard_VD, *chunk)
    prob_BTV = jnp.exp(scores_BTV - lse_BT[..., None])
    return logp_BT, lse_BT - _mean_score(cfg, prob_BTV, scores_BTV)

  return jax.lax.map(chunk_logprobs, (hidden_NBTD, id_NBT))


def _forward(cfg, temperature, *args):
  # symbolic_zeros wraps the arguments in CustomVJPPrimal.
  args = tuple(arg.value for arg in args)
  return _chunk_logprobs(cfg, temperature, *args), args


def _backward(cfg, temperature, saved, cotangents):
  hidden_NBTD, table_VD, target_NBT = saved
  shard_VD, id_NBT = _shard(cfg, table_VD, target_NBT)
  V, D = shard_VD.shape
  zero_DV = jnp.zeros((D, V), jnp.float32)
  symbolic_zero = jax.custom_derivatives.SymbolicZero
  g_logp_NBT, g_entropy_NBT = (
    None if isinstance(g, symbolic_zero) else cfg.sharding.sum_over_model(g)
    for g in cotangents
  )
  if g_logp_NBT is None:
    g_logp_NBT = jnp.zeros(target_NBT.shape)

  def add_chunk(dtable_DV, chunk):
    hidden_BTD, *_ = chunk
    d_BTV = _logits_gradient(cfg, temperature, shard_VD, chunk)
    d = d_BTV.astype(shard_VD.dtype).reshape(-1, V)
    hidden = hidden_BTD.reshape(-1, D)
    dhidden = linear.dot(d, shard_VD).astype(hidden_BTD.dtype)
    dhidden_BTD = dhidden.reshape(hidden_BTD.shape)
    hidden = linear.transpose(cfg.cpu_layout, hidden)
    # The chunks' gradients are added in float32 for any dtype of the products.
    return dtable_DV + linear.dot(hidden, d), dhidden_BTD

  chunks = hidden_NBTD, id_NBT, g_logp_NBT, g_entropy_NBT
  dtable_DV, dhidden_NBTD = jax.lax.scan(add_chunk, zero_DV, chunks)
  if cfg.cpu_layout:
    # Otherwise XLA folds the transposition below into the bfloat16 product that
    # computes the gradient, which then has no fast kernel.
    dtable_DV = jax.lax.optimization_barrier(dtable_DV)
  dtable_VD = cfg.sharding.scatter_gradient(cfg.table_name, dtable_DV.T)
  return dhidden_NBTD, dtable_VD.astype(table_VD.dtype), None


# With symbolic_zeros the backward pass sees at trace time that a cotangent is
# zero, so a loss without an entropy term skips the entropy's gradient.
_chunk_logprobs.defvjp(_forward, _backward, symbolic_zeros=True)


def _logits_gradient(cfg, temperature, shard_VD, chunk):
  """The gradient of sum (g_logp log p(target) + g_entropy H) in the logits.

  With scores s = logits / temperature and p = softmax(s):
  d log p_t / d s_v = 1[v = t] - p_v, d H / d s_v = -p_v (s_v - sum_u p_u s_u).
  """
  hidden_BTD, id_BT, g_logp, g_entropy = chunk
  scores_BTV, lse_BT, _ = _scores(cfg, temperature, shard_VD, hidden_BTD, id_BT)
  prob_BTV = jnp.exp(scores_BTV - lse_BT[..., None])
  id_11V = jnp.arange(scores_BTV.shape[-1])[None, None]
  d_BTV = (id_11V == id_BT[..., None]) - prob_BTV
  d_BTV *= (g_logp / temperature)[..., None]
  if g_entropy is not None:
    mean_BT = _mean_score(cfg, prob_BTV, scores_BTV)
    dentropy_BTV = -prob_BTV * (scores_BTV - mean_BT[..., None])
    d_BTV += dentropy_BTV * (g_entropy / temperature)[..., None]
  if cfg.logit_softcap:
    # d cap tanh(z / cap) / dz = 1 - tanh^2; 0 for the masked ids.
    tanh_BTV = scores_BTV * temperature / cfg.logit_softcap
    d_BTV *= jnp.maximum(1 - jnp.square(tanh_BTV), 0)
  return d_BTV


def _shard(cfg, table_VD, target_NBT):
  """This device's rows of the table, gathered over 'data', and the targets
  counted from its first id."""
  shard_VD = cfg.sharding.gather_weight(cfg.table_name, table_VD, cfg.dtype)
  return shard_VD, target_NBT - cfg.sharding.first_index(len(shard_VD))


def _scores(cfg, temperature, shard_VD, hidden_BTD, id_BT):
  """(scores = logits / temperature of this device's ids, log sum exp of all
  scores, log p(target)). id_BT counts the target from the device's first id."""
  sharding, V = cfg.sharding, shard_VD.shape[0]
  scores_BTV = logits(cfg, hidden_BTD, shard_VD) / temperature
  lse_BT = jax.nn.logsumexp(scores_BTV, axis=-1)
  if sharding.tensor_parallel == 1:
    return scores_BTV, lse_BT, _take(scores_BTV, id_BT) - lse_BT
  max_BT = sharding.max_over_model(lse_BT)
  sum_BT = sharding.sum_over_model(jnp.exp(lse_BT - max_BT))
  lse_BT = jnp.log(sum_BT) + max_BT
  own_BT = (id_BT >= 0) & (id_BT < V)
  target_BT = _take(scores_BTV, jnp.where(own_BT, id_BT, 0))
  target_BT = sharding.sum_over_model(jnp.where(own_BT, target_BT, 0))
  return scores_BTV, lse_BT, target_BT - lse_BT


def _take(scores_BTV, id_BT):
  return jnp.take_along_axis(scores_BTV, id_BT[..., None], axis=-1)[..., 0]


def _mean_score(cfg, prob_BTV, scores_BTV):
  """sum_v p_v s_v over all ids."""
  return cfg.sharding.sum_over_model(jnp.sum(prob_BTV * scores_BTV, axis=-1))
