"""Inversion in two levels samples from the softmax, truncated or not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import lm_head
from r1jax.sampling import token_sampling

V = 600  # two blocks and a part of a third
SAMPLES = 200_000


def make_logits():
  """Random logits; every seventh id is masked, and the last ones too."""
  logits_V = 2 * np.random.default_rng(0).standard_normal(V)
  logits_V[::7] = lm_head.MASKED_LOGIT
  logits_V[-20:] = lm_head.MASKED_LOGIT
  return logits_V.astype(np.float32)


def sample(logits_V, temperature=1.0, top_p=1.0, top_k=0):
  """How often each id is sampled, the tokens and their log-probabilities."""

  @jax.jit
  def run(logits_V):
    def part(i):
      key_B = jax.random.split(jax.random.fold_in(jax.random.key(3), i), 2000)
      logits_BV = jnp.broadcast_to(logits_V, (2000, V))
      token_B, logp_B = token_sampling.sample_token(
        logits_BV, key_B, temperature, top_p, top_k
      )
      return jnp.zeros(V, int).at[token_B].add(1), token_B, logp_B

    hits_NV, token_NB, logp_NB = jax.lax.map(part, jnp.arange(SAMPLES // 2000))
    return hits_NV.sum(axis=0), token_NB.ravel(), logp_NB.ravel()

  hits_V, token, logp = jax.device_get(run(logits_V))
  assert hits_V.sum() == SAMPLES
  return hits_V, token, logp


def assert_distributed(hits_V, prob_V):
  """Pearson's chi-squared statistic is within four standard deviations. Ids of
  fewer than five expected hits are pooled."""
  assert not hits_V[prob_V == 0].any()
  expected_V = SAMPLES * prob_V
  rare = expected_V < 5

  def pool(a):
    return np.append(a[~rare], a[rare].sum())

  expected, hits = pool(expected_V), pool(hits_V)
  some = expected > 0
  statistic = ((hits - expected)[some] ** 2 / expected[some]).sum()
  freedom = some.sum() - 1
  assert abs(statistic - freedom) <= 4 * np.sqrt(2 * freedom)


def softmax(x):
  prob = np.exp(x.astype(np.float64) - x.max())
  return prob / prob.sum()


@pytest.mark.parametrize('temperature', [0.6, 1.0, 1.3])
def test_tokens_and_logp_are_those_of_the_softmax(temperature):
  prob_V = softmax(make_logits() / temperature)
  hits_V, token, logp = sample(make_logits(), temperature)
  assert_distributed(hits_V, prob_V)
  np.testing.assert_allclose(logp, np.log(prob_V[token]), atol=1e-5)


def nucleus(prob_V, top_p):
  """The most probable ids up to the first that reaches a mass of top_p."""
  order = np.argsort(-prob_V)
  before = np.cumsum(prob_V[order]) - prob_V[order]
  return order[before < top_p]


def test_logp_has_the_bits_of_logsumexp():
  """So with these options of XLA's CPU backend, see tests/models/test_deepseek.py,
  the sampler's log-probabilities can be the trainer's."""
  exact = dict(xla_cpu_experimental_ynn_fusion_type='', xla_cpu_max_isa='AVX')
  logits_BV = np.random.default_rng(3).normal(0, 3, (5, 700)).astype('f')
  key_B = jax.random.split(jax.random.key(0), 5)

  def sample(logits_BV):
    return token_sampling.sample_token(logits_BV, key_B, 0.7, 1.0, 0)

  options = exact if jax.default_backend() == 'cpu' else None
  compiled = functools.partial(jax.jit, compiler_options=options)
  token_B, logp_B = compiled(sample)(logits_BV)
  want_B = compiled(lambda *args: token_sampling.logp(*args, 0.7))(
    logits_BV, token_B
  )
  np.testing.assert_array_equal(logp_B, want_B)


@pytest.mark.parametrize(
  'top_p, top_k', [(1.0, 1), (1.0, 9), (0.5, 0), (0.95, 0), (0.8, 30)]
)
def test_truncation_keeps_the_nucleus_and_logp_is_not_truncated(top_p, top_k):
  prob_V = softmax(make_logits())
  kept = np.argsort(-prob_V)[: top_k or V]
  inside = np.zeros(V)
  inside[kept] = prob_V[kept]
  kept = nucleus(inside / inside.sum(), top_p)
  only = np.zeros(V)
  only[kept] = prob_V[kept] / prob_V[kept].sum()
  logits_1V = jnp.array(make_logits())[None]
  truncated_V = token_sampling.truncate(logits_1V, top_p, top_k)[0]
  np.testing.assert_array_equal(
    np.flatnonzero(truncated_V > -1e29), np.sort(kept)
  )
  hits_V, token, logp = sample(make_logits(), 1.0, top_p, top_k)
  assert_distributed(hits_V, only)
  np.testing.assert_allclose(logp, np.log(prob_V[token]), atol=1e-5)


def test_temperature_zero_takes_the_argmax():
  logits_BV = np.random.default_rng(1).standard_normal((5, V)).astype('f')
  key_B = jax.random.split(jax.random.key(0), 5)
  token_B, logp_B = token_sampling.sample_token(
    jnp.array(logits_BV), key_B, temperature=0.0, top_p=1.0, top_k=0
  )
  np.testing.assert_array_equal(token_B, logits_BV.argmax(axis=1))
  want_B = [np.log(softmax(logits_V).max()) for logits_V in logits_BV]
  np.testing.assert_allclose(logp_B, want_B, atol=1e-5)


@pytest.mark.parametrize('size', [3, 256, 594])
def test_no_uniform_number_selects_an_index_without_mass(size):
  """Numbers at the boundaries of the cumulative sum included. 594 blocks are a
  vocabulary of 152,064."""
  random = np.random.default_rng(0)
  invert = jax.jit(token_sampling._invert)
  for _ in range(10):
    mass = random.random(size, np.float32) ** 4
    mass *= random.random(size) < 0.5
    mass[random.integers(size)] = 1
    edges = np.floor(np.cumsum(mass) / mass.sum() * 2**23)[:, None]
    uniform = ((edges + [-1, 0, 1]) / 2**23).ravel().astype('f')
    uniform = np.append(uniform.clip(0, 1 - 2**-23), [0, 1 - 2**-23])
    index = invert(np.tile(mass, (uniform.size, 1)), uniform.astype('f'))
    assert index.max() < size
    assert mass[index].min() > 0


def test_an_id_of_probability_one_is_always_sampled():
  logits_V = np.full(V, lm_head.MASKED_LOGIT, np.float32)
  logits_V[300] = 5
  key_B = jax.random.split(jax.random.key(0), 50)
  logits_BV = jnp.tile(logits_V, (50, 1))
  token_B, logp_B = token_sampling.sample_token(logits_BV, key_B, 1.0, 1.0, 0)
  assert (token_B == 300).all() and not logp_B.any()


@pytest.mark.parametrize('top_k', [V, V + 1, 10**9])
def test_a_top_k_above_the_vocabulary_keeps_all_ids(top_k):
  logits_BV = jnp.array([make_logits()])
  kept_BV = token_sampling.truncate(logits_BV, 1.0, top_k)
  np.testing.assert_array_equal(kept_BV, logits_BV)
