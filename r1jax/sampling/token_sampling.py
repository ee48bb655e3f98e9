"""One token a row from its logits: temperature, top-k, top-p, and a number that
is uniform made into a token."""

import jax
import jax.numpy as jnp

from r1jax.models import lm_head

BLOCK = 256  # ids a block in the two-level inverse of the distribution


def truncate(scores_SV, top_p, top_k):
  """Scores with everything outside the top k and the top-p nucleus hidden."""
  if top_k:
    least_S1 = jax.lax.top_k(scores_SV, top_k)[0][:, -1:]
    scores_SV = jnp.where(scores_SV < least_S1, lm_head.HIDDEN, scores_SV)
  if top_p < 1:
    inside_SV = _nucleus(jax.nn.softmax(scores_SV, axis=-1), top_p)
    scores_SV = jnp.where(inside_SV, scores_SV, lm_head.HIDDEN)
  return scores_SV


def _nucleus(prob_SV, top_p):
  """Which ids are in the smallest set of mass top_p, equal ones together.

  Its least probability is found bit by bit, for as an integer a float that is
  not negative has the same order: thirty sums, where a sort of the vocabulary
  takes many times as long as the model.
  """
  bits_SV = jax.lax.bitcast_convert_type(prob_SV, jnp.int32)
  mass_S = top_p * jnp.sum(prob_SV, axis=-1)

  def narrow(n, least_S):
    tried_S = least_S | (1 << (29 - n))
    inside_SV = jnp.where(bits_SV >= tried_S[:, None], prob_SV, 0)
    return jnp.where(jnp.sum(inside_SV, axis=-1) >= mass_S, tried_S, least_S)

  none_S = jnp.zeros(len(prob_SV), jnp.int32)
  least_S = jax.lax.fori_loop(0, 30, narrow, none_S)
  return bits_SV >= least_S[:, None]


def _invert(mass_SN, uniform_S):
  """The first index with mass whose cumulated mass exceeds uniform * total."""
  # A parallel sum is not monotone to the last bit: without the mask a number
  # at a boundary falls on an index of no mass.
  cdf_SN = jnp.where(mass_SN > 0, jnp.cumsum(mass_SN, axis=-1), 0)
  aim_S1 = uniform_S[:, None] * jnp.max(cdf_SN, axis=-1, keepdims=True)
  index_1N = jnp.arange(mass_SN.shape[-1])[None]
  return jnp.min(jnp.where(cdf_SN > aim_S1, index_1N, index_1N.size), axis=-1)


def sample_token(logits_SV, key_S, sc):
  """(token_S, logp_S): one token a row by inversion, block first, then within
  the block, with a uniform number for each; far cheaper than Gumbel noise for
  every id of the vocabulary."""
  if sc.temperature == 0:
    token_S = jnp.argmax(logits_SV, axis=-1)
    scores_SV = logits_SV
  else:
    scores_SV = logits_SV / sc.temperature
    kept_SV = truncate(scores_SV, sc.top_p, sc.top_k)
    top_S1 = jnp.max(kept_SV, axis=-1, keepdims=True)
    V = kept_SV.shape[-1]
    mass = jnp.pad(jnp.exp(kept_SV - top_S1), ((0, 0), (0, -V % BLOCK)))
    mass_SNR = mass.reshape(mass.shape[0], -1, BLOCK)
    uniform_2S = jax.vmap(lambda k: jax.random.uniform(k, (2,)))(key_S).T
    block_S = _invert(jnp.sum(mass_SNR, axis=-1), uniform_2S[0])
    mass_SR = jnp.take_along_axis(mass_SNR, block_S[:, None, None], axis=1)
    token_S = block_S * BLOCK + _invert(mass_SR[:, 0], uniform_2S[1])
  chosen_S = jnp.take_along_axis(scores_SV, token_S[:, None], axis=-1)[:, 0]
  return token_S, chosen_S - jax.nn.logsumexp(scores_SV, axis=-1)
