"""The head: log-probabilities of given tokens without ever holding the logits
of more than a chunk of columns, forward and backward."""

import functools

import jax
import jax.numpy as jnp

from r1jax import cpu

HIDDEN = -1e30  # the logit of an id that no tokenizer knows


def logits(hidden, table_VD, real_vocab=0):
  """hidden[..., D] @ table' in float32; ids from real_vocab on get HIDDEN."""
  out = jax.lax.dot_general(
    hidden,
    table_VD,
    (((hidden.ndim - 1,), (1,)), ((), ())),
    preferred_element_type=jnp.float32,
  )
  if real_vocab and real_vocab < table_VD.shape[0]:
    known = jnp.arange(table_VD.shape[0]) < real_vocab
    known = jnp.expand_dims(known, tuple(range(out.ndim - 1)))
    out = jnp.where(known, out, HIDDEN)
  return out


def token_logprobs(
  hidden_BTD, table_VD, target_BT, *, temperature, chunk, real_vocab, cpu_layout
):
  """(log p(target), entropy) of softmax(hidden @ table' / temperature)."""
  B, T, D = hidden_BTD.shape
  chunk = min(chunk, T)
  count = -(-T // chunk)
  cut = lambda a: (
    jnp.pad(a, ((0, 0), (0, count * chunk - T)) + ((0, 0),) * (a.ndim - 2))
    .reshape(B, count, chunk, *a.shape[2:])
    .swapaxes(0, 1)
  )
  join = lambda a: a.swapaxes(0, 1).reshape(B, -1)[:, :T]
  static = (float(temperature), real_vocab, cpu_layout)
  logp, entropy = _chunks(static, cut(hidden_BTD), table_VD, cut(target_BT))
  return join(logp), join(entropy)


def _scores(static, hidden_BcD, table_VD, target_Bc):
  temperature, real_vocab, _ = static
  scores_BcV = logits(hidden_BcD, table_VD, real_vocab) / temperature
  lse_Bc = jax.nn.logsumexp(scores_BcV, axis=-1)
  chosen = jnp.take_along_axis(scores_BcV, target_Bc[..., None], axis=-1)
  return scores_BcV, lse_Bc, chosen[..., 0] - lse_Bc


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunks(static, hidden_nBcD, table_VD, target_nBc):
  return _forward(static, hidden_nBcD, table_VD, target_nBc)[0]


def _forward(static, hidden_nBcD, table_VD, target_nBc):
  def one(args):
    scores_BcV, lse_Bc, logp_Bc = _scores(static, args[0], table_VD, args[1])
    prob = jnp.exp(scores_BcV - lse_Bc[..., None])
    return logp_Bc, lse_Bc - jnp.sum(prob * scores_BcV, axis=-1)

  out = jax.lax.map(one, (hidden_nBcD, target_nBc))
  return out, (hidden_nBcD, table_VD, target_nBc)


def _backward(static, saved, cotangents):
  hidden_nBcD, table_VD, target_nBc = saved
  temperature, _, cpu_layout = static
  D, V = hidden_nBcD.shape[-1], table_VD.shape[0]

  def one(dtable, args):
    hidden_BcD, target_Bc, g_Bc = args
    scores_BcV, lse_Bc, _ = _scores(static, hidden_BcD, table_VD, target_Bc)
    prob = jnp.exp(scores_BcV - lse_Bc[..., None])
    hit = jnp.arange(V)[None, None] == target_Bc[..., None]
    d_BcV = (hit - prob) * (g_Bc / temperature)[..., None]
    d_MV = d_BcV.astype(table_VD.dtype).reshape(-1, V)
    h_MD = hidden_BcD.reshape(-1, D)
    turn = cpu.turn if cpu_layout else jnp.transpose
    dhidden = cpu.dot(d_MV, table_VD)
    dhidden = dhidden.astype(hidden_BcD.dtype).reshape(hidden_BcD.shape)
    # float32 sums over the chunks, whatever the products' dtype.
    return dtable + cpu.dot(turn(h_MD), d_MV), dhidden

  zero_DV = jnp.zeros((D, V), jnp.float32)
  args = (hidden_nBcD, target_nBc, cotangents[0])
  dtable_DV, dhidden = jax.lax.scan(one, zero_DV, args)
  return dhidden, dtable_DV.T.astype(table_VD.dtype), None


_chunks.defvjp(_forward, _backward)
