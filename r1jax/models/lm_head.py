"""The head: log-probabilities of given tokens without ever holding the logits
of more than a chunk of columns, forward and backward."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from r1jax.models import cpu
from r1jax.models.sharding import FsdpTensorParallel, NoSharding

HIDDEN = -1e30  # the logit of an id that no tokenizer knows


class How(NamedTuple):
  """Where the table lies and under which name, and what is computed of it."""

  sharding: NoSharding | FsdpTensorParallel
  name: str
  dtype: str  # of the matrix products
  temperature: float
  real_vocab: int
  cpu_layout: bool


def logits(sharding, hidden, table_VD, real_vocab=0):
  """hidden[..., D] @ table' in float32, for the ids of this part of the table;
  ids from real_vocab on get HIDDEN."""
  out = jax.lax.dot_general(
    hidden,
    table_VD,
    (((hidden.ndim - 1,), (1,)), ((), ())),
    preferred_element_type=jnp.float32,
  )
  V = table_VD.shape[0]
  if real_vocab and real_vocab < V * sharding.model:
    known = jnp.arange(V) + sharding.first_id(V) < real_vocab
    known = jnp.expand_dims(known, tuple(range(out.ndim - 1)))
    out = jnp.where(known, out, HIDDEN)
  return out


def token_logprobs(how, chunk, hidden_BTD, table_VD, target_BT):
  """(log p(target), entropy) of softmax(hidden @ table' / temperature).

  The table is the parameter itself: it is gathered once forward and once
  backward, and its gradient is summed once, in float32, after the last chunk.
  """
  B, T, D = hidden_BTD.shape
  chunk = min(chunk, T)
  count = -(-T // chunk)

  def cut(a):
    return (
      jnp.pad(a, ((0, 0), (0, count * chunk - T)) + ((0, 0),) * (a.ndim - 2))
      .reshape(B, count, chunk, *a.shape[2:])
      .swapaxes(0, 1)
    )

  def join(a):
    return a.swapaxes(0, 1).reshape(B, -1)[:, :T]

  logp, entropy = _chunks(how, cut(hidden_BTD), table_VD, cut(target_BT))
  return join(logp), join(entropy)


def _scores(how, hidden_BcD, table_VD, id_Bc):
  """Scores of this part's ids, their log-normaliser and the target's log p;
  id_Bc is the target counted from the part's first id."""
  sharding, V = how.sharding, table_VD.shape[0]
  scores_BcV = logits(sharding, hidden_BcD, table_VD, how.real_vocab)
  scores_BcV /= how.temperature
  lse_Bc = jax.nn.logsumexp(scores_BcV, axis=-1)

  def pick(id_Bc):
    return jnp.take_along_axis(scores_BcV, id_Bc[..., None], axis=-1)[..., 0]

  if sharding.model == 1:
    return scores_BcV, lse_Bc, pick(id_Bc) - lse_Bc
  most_Bc = sharding.most(lse_Bc)
  lse_Bc = jnp.log(sharding.sum(jnp.exp(lse_Bc - most_Bc))) + most_Bc
  here_Bc = (id_Bc >= 0) & (id_Bc < V)
  chosen_Bc = jnp.where(here_Bc, pick(jnp.where(here_Bc, id_Bc, 0)), 0)
  return scores_BcV, lse_Bc, sharding.sum(chosen_Bc) - lse_Bc


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunks(how, hidden_nBcD, table_VD, target_nBc):
  return _forward(how, hidden_nBcD, table_VD, target_nBc)[0]


def _part(how, table_VD, target_nBc):
  """This device's rows of the table, and the targets counted from its first."""
  part_VD = how.sharding.weight(how.name, table_VD, how.dtype)
  return part_VD, target_nBc - how.sharding.first_id(part_VD.shape[0])


def _forward(how, hidden_nBcD, table_VD, target_nBc):
  part_VD, id_nBc = _part(how, table_VD, target_nBc)

  def one(args):
    scores_BcV, lse_Bc, logp_Bc = _scores(how, args[0], part_VD, args[1])
    prob = jnp.exp(scores_BcV - lse_Bc[..., None])
    mean_Bc = how.sharding.sum(jnp.sum(prob * scores_BcV, axis=-1))
    return logp_Bc, lse_Bc - mean_Bc

  out = jax.lax.map(one, (hidden_nBcD, id_nBc))
  return out, (hidden_nBcD, table_VD, target_nBc)


def _backward(how, saved, cotangents):
  hidden_nBcD, table_VD, target_nBc = saved
  part_VD, id_nBc = _part(how, table_VD, target_nBc)
  V, D = part_VD.shape

  def one(dtable, args):
    hidden_BcD, id_Bc, g_Bc = args
    scores_BcV, lse_Bc, _ = _scores(how, hidden_BcD, part_VD, id_Bc)
    prob = jnp.exp(scores_BcV - lse_Bc[..., None])
    hit = jnp.arange(V)[None, None] == id_Bc[..., None]
    d_BcV = (hit - prob) * (g_Bc / how.temperature)[..., None]
    d_MV = d_BcV.astype(part_VD.dtype).reshape(-1, V)
    h_MD = hidden_BcD.reshape(-1, D)
    turn = cpu.transpose if how.cpu_layout else jnp.transpose
    dhidden = cpu.dot(d_MV, part_VD)
    dhidden = dhidden.astype(hidden_BcD.dtype).reshape(hidden_BcD.shape)
    # float32 sums over the chunks, whatever the products' dtype.
    return dtable + cpu.dot(turn(h_MD), d_MV), dhidden

  zero_DV = jnp.zeros((D, V), jnp.float32)
  g_nBc = how.sharding.sum(cotangents[0])
  dtable_DV, dhidden = jax.lax.scan(one, zero_DV, (hidden_nBcD, id_nBc, g_nBc))
  if how.cpu_layout:
    dtable_DV = cpu.materialize(dtable_DV)
  dtable_VD = how.sharding.gradient(how.name, dtable_DV.T)
  return dhidden, dtable_VD.astype(table_VD.dtype), None


_chunks.defvjp(_forward, _backward)
