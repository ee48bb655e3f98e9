"""Samples one token a row from logits, with temperature, top-k and top-p."""

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import lm_head

BLOCK_SIZE = 256  # ids of a block in the two-level inversion
# A smaller temperature counts as 0: the rounding of logits / temperature would
# be larger than the differences between them.
MIN_TEMPERATURE = 1e-4


def sample_token(
  logits_BV: Array, key_B: Array, temperature: float, top_p: float, top_k: int
) -> tuple[Array, Array]:
  """(token_B, logp_B): a token of each row, and its log-probability under
  softmax(logits / temperature) before truncation.

  The truncated distribution is inverted in two levels, a block of ids and then
  an id of the block, with a uniform number for each. This is much cheaper than
  Gumbel noise for every id. A temperature of 0 takes the argmax; its logp_B is
  that of softmax(logits).
  """
  if temperature < MIN_TEMPERATURE:
    token_B = jnp.argmax(logits_BV, axis=-1)
    return token_B, logp(logits_BV, token_B, temperature)
  scores_BV = logits_BV / temperature
  max_B1 = jnp.max(scores_BV, axis=-1, keepdims=True)
  mass_BV = jnp.exp(scores_BV - max_B1)
  # logsumexp with its operations, so its bits, by exponentials that the inversion
  # needs too.
  lse_B = jnp.log(jnp.sum(mass_BV, axis=-1)) + max_B1[:, 0]
  kept_BV = jnp.exp(truncate(scores_BV, top_p, top_k) - max_B1)
  token_B = invert(kept_BV, uniform(key_B, 2))
  return token_B, _of_token(scores_BV, token_B) - lse_B


def sample_token_by_row(
  logits_BV: Array,
  key_B: Array,
  temperature_B: Array,
  top_p_B: Array,
  top_k_B: Array,
) -> tuple[Array, Array]:
  """sample_token with a temperature, a top_p and a top_k of each row."""
  scores_BV = scores_by_row(logits_BV, temperature_B)
  mass_BV = jnp.exp(scores_BV - jnp.max(scores_BV, axis=-1, keepdims=True))
  truncates = jnp.any((top_p_B < 1) | (top_k_B > 0))
  kept_BV = jax.lax.cond(
    truncates, _truncate_by_row, _unchanged, mass_BV, top_p_B, top_k_B
  )
  token_B = jnp.where(
    temperature_B >= MIN_TEMPERATURE,
    invert(kept_BV, uniform(key_B, 2)),
    jnp.argmax(logits_BV, axis=-1),
  )
  return token_B, logp(scores_BV, token_B, 1.0)


def scores_by_row(logits_BV: Array, temperature_B: Array) -> Array:
  """The logits / temperature; those of rows with temperature 0 as they are."""
  is_greedy_B = temperature_B < MIN_TEMPERATURE
  return logits_BV / jnp.where(is_greedy_B, 1, temperature_B)[:, None]


def logp(logits_BV: Array, token_B: Array, temperature: float) -> Array:
  """The logp_B of sample_token."""
  is_greedy = temperature < MIN_TEMPERATURE
  scores_BV = logits_BV if is_greedy else logits_BV / temperature
  return _of_token(scores_BV, token_B) - jax.nn.logsumexp(scores_BV, axis=-1)


def probabilities(
  logits_BV: Array, temperature: float, top_p: float, top_k: int
) -> Array:
  """The distribution from which sample_token samples."""
  if temperature < MIN_TEMPERATURE:
    V = logits_BV.shape[-1]
    return jax.nn.one_hot(jnp.argmax(logits_BV, axis=-1), V)
  kept_BV = truncate(logits_BV / temperature, top_p, top_k)
  return jax.nn.softmax(kept_BV, axis=-1)


def uniform(key_B: Array, count: int) -> Array:
  """`count` uniform numbers of each row, [count, B]."""
  return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(key_B).T


def invert(mass_BV: Array, uniform_2B: Array) -> Array:
  """A token_B of each row, with a probability proportional to its mass."""
  B, V = mass_BV.shape
  mass = jnp.pad(mass_BV, ((0, 0), (0, -V % BLOCK_SIZE)))
  mass = mass.reshape(B, -1, BLOCK_SIZE)
  block_B = _invert(jnp.sum(mass, axis=-1), uniform_2B[0])
  mass = jnp.take_along_axis(mass, block_B[:, None, None], axis=1)
  return block_B * BLOCK_SIZE + _invert(mass[:, 0], uniform_2B[1])


def _of_token(scores_BV, token_B):
  return jnp.take_along_axis(scores_BV, token_B[:, None], axis=-1)[:, 0]


def truncate(scores_BV: Array, top_p: float, top_k: int) -> Array:
  """The scores, with MASKED_LOGIT for ids outside the top_k or the nucleus of
  mass top_p. Ids of equal score are kept or masked together."""
  if 0 < top_k < scores_BV.shape[-1]:
    min_B1 = jax.lax.top_k(scores_BV, top_k)[0][:, -1:]
    scores_BV = jnp.where(scores_BV < min_B1, lm_head.MASKED_LOGIT, scores_BV)
  if top_p < 1:
    inside_BV = _nucleus(jax.nn.softmax(scores_BV, axis=-1), top_p)
    scores_BV = jnp.where(inside_BV, scores_BV, lm_head.MASKED_LOGIT)
  return scores_BV


def _nucleus(prob_BV, top_p):
  """Whether an id is in the smallest set of the most probable ids whose mass is
  at least top_p."""
  return _most_probable(prob_BV, prob_BV, top_p * jnp.sum(prob_BV, axis=-1))


def _truncate_by_row(mass_BV, top_p_B, top_k_B):
  """The mass, 0 for ids outside the top_k or the nucleus."""
  count_B = jnp.where(top_k_B > 0, top_k_B, mass_BV.shape[-1])
  inside_BV = _most_probable(mass_BV, jnp.ones_like(mass_BV), count_B)
  mass_BV = jnp.where(inside_BV, mass_BV, 0)
  inside_BV = _nucleus(mass_BV, top_p_B) | (top_p_B >= 1)[:, None]
  return jnp.where(inside_BV, mass_BV, 0)


def _unchanged(mass_BV, top_p_B, top_k_B):
  return mass_BV


def _most_probable(prob_BV, weight_BV, min_weight_B):
  """Whether an id is in the smallest set of the most probable ids whose sum of
  weights is at least min_weight_B.

  Finds the smallest probability of the set by binary search over its bits: as
  integers, floats that are not negative have the same order. This takes thirty
  sums; a sort of the vocabulary takes longer than the model's forward pass.
  """
  bits_BV = jax.lax.bitcast_convert_type(prob_BV, jnp.int32)

  def search(n, min_B):
    candidate_B = min_B | (1 << (29 - n))
    inside_BV = jnp.where(bits_BV >= candidate_B[:, None], weight_BV, 0)
    enough_B = jnp.sum(inside_BV, axis=-1) >= min_weight_B
    return jnp.where(enough_B, candidate_B, min_B)

  zero_B = jnp.zeros(len(prob_BV), jnp.int32)
  min_B = jax.lax.fori_loop(0, 30, search, zero_B)
  return bits_BV >= min_B[:, None]


def _invert(mass_BV, uniform_B):
  """The first index with mass whose cumulative mass exceeds uniform * total."""
  # A parallel sum is not monotone to the last bit: without the mask, a number
  # at a boundary could select an index without mass.
  cdf_BV = jnp.where(mass_BV > 0, jnp.cumsum(mass_BV, axis=-1), 0)
  target_B1 = uniform_B[:, None] * jnp.max(cdf_BV, axis=-1, keepdims=True)
  index_1V = jnp.arange(mass_BV.shape[-1])[None]
  above_BV = cdf_BV > target_B1
  return jnp.min(jnp.where(above_BV, index_1V, index_1V.size), axis=-1)
