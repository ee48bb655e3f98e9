"""Attention under the one rule of visibility, and the cache's write."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from r1jax.models import cpu

HIDDEN = -1e30  # the score of a key that must not be seen
TILE = 128  # rows are padded to multiples of it for the kernel
LONG = 16384  # from here on the fused backward kernel takes too much memory


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(cpu_layout, q_BTKGC, k_BKSC, v_BKSC, pos_BT, pos_BS):
  """softmax(q k' / sqrt(C)) v over the keys with 0 <= pos_key <= pos_query.

  float32 scores and results; backward, too, every product takes operands of
  the inputs' dtype.
  """
  return _forward(cpu_layout, q_BTKGC, k_BKSC, v_BKSC, pos_BT, pos_BS)[0]


def _product(spec, a, b):
  return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)


def _merge(x_BTKGC):
  """[B, K, G T, C]: one matrix product a key head."""
  B, T, K, G, C = x_BTKGC.shape
  return x_BTKGC.transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, C)


def _unmerge(x_BKMC, shape):
  B, T, K, G, C = shape
  return x_BKMC.reshape(B, K, G, T, C).transpose(0, 3, 1, 2, 4)


def _forward(cpu_layout, q_BTKGC, k_BKSC, v_BKSC, pos_BT, pos_BS):
  B, T, K, G, C = q_BTKGC.shape
  q_BKMC = _merge(q_BTKGC)
  scores_BKMS = _product('bkmc,bksc->bkms', q_BKMC, k_BKSC) * C**-0.5
  seen = pos_BS[:, None, :] <= pos_BT[:, :, None]
  seen_BTS = seen & (pos_BS >= 0)[:, None, :]
  scores_BKGTS = jnp.where(
    seen_BTS[:, None, None], scores_BKMS.reshape(B, K, G, T, -1), HIDDEN
  )
  prob_BKGTS = jax.nn.softmax(scores_BKGTS, axis=-1).astype(v_BKSC.dtype)
  prob_BKMS = prob_BKGTS.reshape(B, K, G * T, -1)
  out_BKMC = _product('bkms,bksc->bkmc', prob_BKMS, v_BKSC)
  return _unmerge(out_BKMC, q_BTKGC.shape), (q_BKMC, k_BKSC, v_BKSC, prob_BKMS)


def _backward(cpu_layout, saved, g_BTKGC):
  q_BKMC, k_BKSC, v_BKSC, prob_BKMS = saved
  dtype = q_BKMC.dtype
  turn = cpu.transpose if cpu_layout else lambda a: a.swapaxes(-1, -2)
  g_BKMC = _merge(g_BTKGC.astype(dtype))
  dv_BKSC = _product('bksm,bkmc->bksc', turn(prob_BKMS), g_BKMC)
  dprob_BKMS = _product('bkmc,bksc->bkms', g_BKMC, v_BKSC)
  prob = prob_BKMS.astype(jnp.float32)
  mean = jnp.sum(prob * dprob_BKMS, axis=-1, keepdims=True)
  scale = q_BKMC.shape[-1] ** -0.5
  ds_BKMS = (prob * (dprob_BKMS - mean) * scale).astype(dtype)
  dq_BKMC = _product('bkms,bksc->bkmc', ds_BKMS, k_BKSC).astype(dtype)
  dk_BKSC = _product('bksm,bkmc->bksc', turn(ds_BKMS), q_BKMC)
  return (
    _unmerge(dq_BKMC, g_BTKGC.shape),
    dk_BKSC.astype(dtype),
    dv_BKSC.astype(dtype),
    None,
    None,
  )


attend.defvjp(_forward, _backward)


def attend_past(q_B1KGC, k_BKC, v_BKC, past_k_BKSC, past_v_BKSC, pos_B):
  """attend for one query a row over the columns of a cache before it, and over
  its own key, which is not in the cache yet: nothing is written here."""
  C = q_B1KGC.shape[-1]
  q_BKGC = q_B1KGC[:, 0]
  past = _product('bkgc,bksc->bkgs', q_BKGC, past_k_BKSC) * C**-0.5
  before_BS = jnp.arange(past.shape[-1])[None] < pos_B[:, None]
  past = jnp.where(before_BS[:, None, None], past, HIDDEN)
  own = _product('bkgc,bkc->bkg', q_BKGC, k_BKC)[..., None] * C**-0.5
  most = jnp.maximum(jnp.max(past, axis=-1, keepdims=True), own)
  past, own = jnp.exp(past - most), jnp.exp(own - most)
  whole = jnp.sum(past, axis=-1, keepdims=True) + own
  past, own = ((x / whole).astype(v_BKC.dtype) for x in (past, own))
  out = _product('bkgs,bksc->bkgc', past, past_v_BKSC)
  return (out + own.astype(jnp.float32) * v_BKC[:, :, None])[:, None]


def as_read(cache):
  """The cache in the layout in which attention reads it: a compiler that is
  free to choose another for a write copies all of it, there and back."""
  return with_layout_constraint(cache, Layout(tuple(range(cache.ndim))))


def write_layers(cache_NBKTC, new_NBKC, column_B):
  """Put one new key a row and layer into its column of the cache, in place:
  row by row, for a scatter takes a layout of its own."""

  def put(row, cache_NBKTC):
    new = jax.lax.dynamic_slice_in_dim(new_NBKC, row, 1, axis=1)[:, :, :, None]
    place = (0, row, 0, column_B[row], 0)
    cache_NBKTC = as_read(cache_NBKTC)
    return as_read(jax.lax.dynamic_update_slice(cache_NBKTC, new, place))

  return jax.lax.fori_loop(0, len(column_B), put, cache_NBKTC)


def write(cpu_layout, cache_BKTC, new_BKC, column_B):
  """Put one new key a row into its column of the cache, in place."""
  put = jax.vmap(
    lambda cache, new, t: jax.lax.dynamic_update_slice(
      cache, new[:, None], (0, t, 0)
    )
  )
  if cpu_layout:
    return cpu.write(put, cache_BKTC, new_BKC, column_B)
  return put(cache_BKTC, new_BKC, column_B)


def splash(q_BTKGC, k_BKSC, v_BKSC, pos_BT, pos_BS, interpret=False):
  """attend, by the kernel of TPUs that keeps the scores on the chip, for keys
  that are those of the queries themselves.

  In a row whose real tokens stand side by side, 0 <= pos_key <= pos_query is
  "not behind the query, and real": a causal mask and two segments.
  """
  B, T, K, G, C = q_BTKGC.shape
  fill = -T % TILE

  def pad(a, axis):
    return jnp.pad(a, [(0, fill if i == axis else 0) for i in range(a.ndim)])

  q_BTHC = (q_BTKGC * C**-0.5).astype(q_BTKGC.dtype).reshape(B, T, K * G, C)
  q_BHTC = pad(q_BTHC, 1).swapaxes(1, 2)
  real_BT = pad((pos_BT >= 0).astype(jnp.int32), 1)
  out_BHTC = jax.vmap(_kernel(K * G, T + fill, interpret))(
    q_BHTC, pad(k_BKSC, 2), pad(v_BKSC, 2), (real_BT, real_BT)
  )
  return out_BHTC.swapaxes(1, 2)[:, :T].reshape(B, T, K, G, C)


@functools.cache
def _kernel(heads, T, interpret):
  """(q_HTC, k_KTC, v_KTC, (segment_T, segment_T)) -> out_HTC."""
  from jax.experimental.pallas.ops.tpu import splash_attention as kernels

  block = max(n for n in (512, 256, TILE) if T % n == 0)
  two = (None, None) if T < LONG else (block, block)
  sizes = kernels.BlockSizes(
    block,
    block,
    block,
    block,
    block,
    block,
    *two,
    use_fused_bwd_kernel=T < LONG,
  )
  mask = kernels.MultiHeadMask([kernels.CausalMask((T, T))] * heads)
  with jax.ensure_compile_time_eval():
    kernel = kernels.make_splash_mha_single_device(
      mask, block_sizes=sizes, interpret=interpret
    )
  return lambda q, k, v, ids: kernel(q, k, v, kernels.SegmentIds(*ids))
