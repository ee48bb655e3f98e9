"""Attention over visible keys, and writes to the key/value cache.

A key is visible iff 0 <= pos_key <= pos_query, and pos_query - pos_key < window
in layers with a window. Padding has position -1. This covers causality, padding
on either side, and cache columns not yet written.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.layout import Layout, with_layout_constraint

from r1jax.models import linear
from r1jax.models.model_config import ModelConfig

KeysValues = tuple[Array, Array]
MASKED_SCORE = -1e30  # of keys that are not visible
TILE = 128  # lanes of a TPU; its kernel takes rows padded to a multiple of it


@dataclasses.dataclass(frozen=True)
class Form:
  """What attention computes beside which keys are visible."""

  scale: float  # of the scores
  softcap: float = 0.0  # scores are cap * tanh(score / cap); 0: not capped
  cpu_layout: bool = False  # see linear.py


class CachedLayer(NamedTuple):
  """What a layer has in a cache of several layers."""

  # Keys and values, or an array whose first channels are the values, of N
  # layers: [N, B, K, S, C].
  arrays: tuple[Array, ...]
  number: Array | int  # of the layer


def visible(
  pos_BT: Array, pos_BS: Array, window: Array | int | None = None
) -> Array:
  """visible_BTS: whether a query at pos_BT sees a key at pos_BS."""
  query_BT1, key_B1S = pos_BT[:, :, None], pos_BS[:, None, :]
  seen_BTS = (key_B1S >= 0) & (key_B1S <= query_BT1)
  if window is not None:
    seen_BTS &= query_BT1 - key_B1S < window
  return seen_BTS


def attend(
  form: Form,
  q_BTKGC: Array,
  kv: KeysValues,
  visible_BTS: Array,
  sink_KG: Array | None = None,
) -> Array:
  """softmax(scale q k') v over the visible keys, [B, T, K, G, C] float32, for
  keys [B, K, S, C] and values, whose C may be another. `sink_KG` as in with_sink.

  Scores and softmax are float32. The operands of each product have the inputs'
  dtype, in the backward pass too.
  """
  G, q_BTKGC = q_BTKGC.shape[3], _single_query_twice(form, q_BTKGC)
  out, lse = attend_with_lse(form, q_BTKGC, kv, visible_BTS)
  return with_sink(out[:, :, :, :G], lse[..., :G], sink_KG)


def _single_query_twice(form, q_BTKGC):
  """The queries, twice if a key head has a single one of bfloat16, see
  linear.single_row_twice."""
  is_single = q_BTKGC.shape[1] * q_BTKGC.shape[3] == 1
  if form.cpu_layout and is_single and q_BTKGC.dtype == jnp.bfloat16:
    return jnp.concatenate([q_BTKGC, q_BTKGC], axis=3)
  return q_BTKGC


def with_sink(
  out_BTKGC: Array, lse_BTKG: Array, sink_KG: Array | None
) -> Array:
  """Attention with a sink, a score of each head that is in the denominator of
  the softmax and has no value: out sum_s e^score / (sum_s e^score + e^sink),
  from the results of attend_with_lse. Without sinks `out`."""
  if sink_KG is None:
    return out_BTKGC
  share_BTKG = jax.nn.sigmoid(lse_BTKG - sink_KG[None, None])
  return out_BTKGC * share_BTKG[..., None]


def merge(
  a: tuple[Array, Array], b: tuple[Array, Array]
) -> tuple[Array, Array]:
  """attend_with_lse over the keys of two calls, from the results of each."""
  (a_BTKGC, a_lse_BTKG), (b_BTKGC, b_lse_BTKG) = a, b
  lse_BTKG = jnp.logaddexp(a_lse_BTKG, b_lse_BTKG)
  out_BTKGC = jnp.exp(a_lse_BTKG - lse_BTKG)[..., None] * a_BTKGC
  out_BTKGC += jnp.exp(b_lse_BTKG - lse_BTKG)[..., None] * b_BTKGC
  return out_BTKGC, lse_BTKG


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend_with_lse(
  form: Form, q_BTKGC: Array, kv: KeysValues, visible_BTS: Array
) -> tuple[Array, Array]:
  """(`attend`, log sum exp of the scores of the visible keys [B, T, K, G]), from
  which the results over several sets of keys can be merged."""
  return _forward(form, q_BTKGC, kv, visible_BTS)[0]


def _forward(form, q_BTKGC, kv, visible_BTS):
  B, T, K, G, _ = q_BTKGC.shape
  k_BKSC, v_BKSC = kv
  q = merge_queries(q_BTKGC)
  scores = linear.product('bkmc,bksc->bkms', q, k_BKSC) * form.scale
  scores, tanh = _capped(form, scores)
  scores = scores.reshape(B, K, G, T, -1)
  visible = visible_BTS[:, None, None]
  scores_BKGTS = jnp.where(visible, scores, MASKED_SCORE)
  lse_BKGT = jax.nn.logsumexp(scores_BKGTS, axis=-1)
  prob = jax.nn.softmax(scores_BKGTS, axis=-1).astype(v_BKSC.dtype)
  prob = prob.reshape(B, K, G * T, -1)
  out = linear.product('bkms,bksc->bkmc', prob, v_BKSC)
  out_BTKGC, lse_BTKG = split_queries(out, T), lse_BKGT.transpose(0, 3, 1, 2)
  return (out_BTKGC, lse_BTKG), (q, k_BKSC, v_BKSC, prob, tanh)


def _backward(form, saved, cotangents):
  g_BTKGC, g_lse_BTKG = cotangents
  q, k_BKSC, v_BKSC, prob, tanh = saved
  dtype, T = q.dtype, g_BTKGC.shape[1]
  g_lse = merge_queries(g_lse_BTKG[..., None])
  g = merge_queries(g_BTKGC.astype(dtype))
  dv = linear.product(
    'bksm,bkmc->bksc', linear.transpose(form.cpu_layout, prob), g
  )
  dprob = linear.product('bkmc,bksc->bkms', g, v_BKSC)
  prob = prob.astype(jnp.float32)
  mean = jnp.sum(prob * dprob, axis=-1, keepdims=True)
  dscores = prob * (dprob - mean + g_lse) * form.scale
  if tanh is not None:
    dscores *= 1 - jnp.square(tanh)
  dscores = dscores.astype(dtype)
  dq = linear.product('bkms,bksc->bkmc', dscores, k_BKSC).astype(dtype)
  dk = linear.product(
    'bksm,bkmc->bksc', linear.transpose(form.cpu_layout, dscores), q
  )
  return split_queries(dq, T), (dk.astype(dtype), dv.astype(dtype)), None


attend_with_lse.defvjp(_forward, _backward)


def _capped(form, scores):
  """(softcap tanh(scores / softcap), its tanh), or the scores without a cap."""
  if not form.softcap:
    return scores, None
  tanh = jnp.tanh(scores / form.softcap)
  return form.softcap * tanh, tanh


def merge_queries(x_BTKGC: Array) -> Array:
  """[B, K, G T, C]: the queries of a key head as rows of one matrix."""
  B, T, K, G, C = x_BTKGC.shape
  return x_BTKGC.transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, C)


def split_queries(x: Array, T: int) -> Array:
  """The inverse of merge_queries."""
  B, K, M, C = x.shape
  return x.reshape(B, K, M // T, T, C).transpose(0, 3, 1, 2, 4)


def attend_past(
  form: Form,
  q_BTKGC: Array,
  kv_BKTC: KeysValues,
  past_BKSC: KeysValues,
  before_BTS: Array,
  sink_KG: Array | None = None,
) -> Array:
  """attend over the columns `before` of a cache and, causally, over the call's
  own keys, which are not written to the cache."""
  (k_BKTC, v_BKTC), (past_k_BKSC, past_v_BKSC) = kv_BKTC, past_BKSC
  T, G = q_BTKGC.shape[1], q_BTKGC.shape[3]
  q = merge_queries(_single_query_twice(form, q_BTKGC))
  past = linear.product('bkmc,bksc->bkms', q, past_k_BKSC) * form.scale
  past, _ = _capped(form, past)
  copies = q.shape[2] // T  # of the T queries: one for each head, or two
  before = jnp.tile(before_BTS, (1, copies, 1))[:, None]
  past = jnp.where(before, past, MASKED_SCORE)
  own = linear.product('bkmc,bktc->bkmt', q, k_BKTC) * form.scale
  own, _ = _capped(form, own)
  causal = jnp.tile(jnp.tri(T, dtype=bool), (copies, 1))
  own = jnp.where(causal[None, None], own, MASKED_SCORE)
  max_score = jnp.max(past, axis=-1, keepdims=True)
  max_score = jnp.maximum(max_score, jnp.max(own, axis=-1, keepdims=True))
  past, own = jnp.exp(past - max_score), jnp.exp(own - max_score)
  total = jnp.sum(past, axis=-1, keepdims=True)
  total += jnp.sum(own, axis=-1, keepdims=True)
  past, own = ((x / total).astype(v_BKTC.dtype) for x in (past, own))
  out = linear.product('bkms,bksc->bkmc', past, past_v_BKSC)
  out = split_queries(out + linear.product('bkmt,bktc->bkmc', own, v_BKTC), T)
  lse_BTKG = split_queries(max_score + jnp.log(total), T)[..., 0]
  return with_sink(out[:, :, :, :G], lse_BTKG[..., :G], sink_KG)


def in_cache_layout(tpu_layout: bool, cache: Array) -> Array:
  """A cache [..., S, C], constrained to the layout in which attention reads it.
  Without the constraint XLA may choose another for a write, and copies the
  whole cache to it and back.

  The layout is row-major. On TPUs, whose tiles have 128 lanes, columns S and
  channels C are swapped if C would leave lanes empty: padded to 128 lanes, the
  64 channels of a small model would take twice the memory.
  """
  order = tuple(range(cache.ndim))
  if tpu_layout and cache.shape[-1] % TILE:
    order = *order[:-2], order[-1], order[-2]
  return with_layout_constraint(cache, Layout(order))


def write(
  cfg: ModelConfig, cache_BKSC: Array, new_BKTC: Array, column_B: Array
) -> Array:
  """The cache with the new keys of a row from its column on, written in place.

  In bfloat16 on CPUs, where XLA would convert the whole cache to float32 and back
  for a scatter, and on TPUs, where the cache must keep its layout, the write is
  that of write_layers.
  """
  is_cpu_bfloat16 = cfg.cpu_layout and cache_BKSC.dtype == jnp.bfloat16
  if cfg.tpu_layout or is_cpu_bfloat16:
    cache, new = cache_BKSC[None], new_BKTC[None]
    return write_layers(cfg.tpu_layout, cache, new, column_B)[0]
  return jax.vmap(
    lambda cache_KSC, new_KTC, column: jax.lax.dynamic_update_slice(
      cache_KSC, new_KTC, (0, column, 0)
    )
  )(cache_BKSC, new_BKTC, column_B)


def write_layers(
  tpu_layout: bool, cache_NBKSC: Array, new_NBKTC: Array, column_B: Array
) -> Array:
  """`write` for all layers. It loops over rows, because XLA would copy the
  cache to another layout for a scatter."""

  def write_row(row, cache):
    new = jax.lax.dynamic_slice_in_dim(new_NBKTC, row, 1, axis=1)
    start = 0, row, 0, column_B[row], 0
    cache = in_cache_layout(tpu_layout, cache)
    cache = jax.lax.dynamic_update_slice(cache, new, start)
    return in_cache_layout(tpu_layout, cache)

  return jax.lax.fori_loop(0, len(column_B), write_row, cache_NBKSC)
