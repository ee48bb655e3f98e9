"""One token drawn by blocks of a cumulated sum is one draw of the softmax."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import lm_head
from r1jax.sampling import decode, token_sampling

V = 600  # two blocks and a part of a third
DRAWS = 200_000
FREE = decode.SampleConfig()


def scores(width=2.0):
  """Logits of all sizes, every seventh id impossible, the last ones too."""
  logits_V = width * np.random.default_rng(0).standard_normal(V)
  logits_V[::7] = lm_head.HIDDEN
  logits_V[-20:] = lm_head.HIDDEN
  return logits_V.astype(np.float32)


def counts(logits_V, sc):
  """How often each id comes in DRAWS draws, and its log-probability."""

  @jax.jit
  def run(logits_V):
    def part(i):
      key_S = jax.random.split(jax.random.fold_in(jax.random.key(3), i), 2000)
      logits_SV = jnp.broadcast_to(logits_V, (2000, V))
      token_S, logp_S = token_sampling.sample_token(logits_SV, key_S, sc)
      return jnp.zeros(V, int).at[token_S].add(1), token_S, logp_S

    hits_IV, token_IS, logp_IS = jax.lax.map(part, jnp.arange(DRAWS // 2000))
    return hits_IV.sum(axis=0), token_IS.ravel(), logp_IS.ravel()

  hits_V, token, logp = jax.device_get(run(logits_V))
  assert hits_V.sum() == DRAWS
  return hits_V, token, logp


def assert_drawn_from(hits_V, prob_V):
  """Pearson's statistic over the ids of five expected hits or more, the others
  together, within four of its standard deviations."""
  assert not hits_V[prob_V == 0].any()
  expected_V = DRAWS * prob_V
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
def test_draws_follow_the_softmax_and_report_its_logarithm(temperature):
  sc = dataclasses.replace(FREE, temperature=temperature)
  prob_V = softmax(scores() / temperature)
  hits_V, token, logp = counts(scores(), sc)
  assert_drawn_from(hits_V, prob_V)
  np.testing.assert_allclose(logp, np.log(prob_V[token]), atol=1e-5)


def nucleus(prob_V, top_p):
  """The likeliest ids, the first to reach a mass of top_p included."""
  order = np.argsort(-prob_V)
  before = np.cumsum(prob_V[order]) - prob_V[order]
  return order[before < top_p]


@pytest.mark.parametrize(
  'top_p, top_k', [(1.0, 1), (1.0, 9), (0.5, 0), (0.95, 0), (0.8, 30)]
)
def test_truncation_keeps_exactly_the_right_ids_and_the_whole_logarithm(
  top_p, top_k
):
  prob_V = softmax(scores())
  kept = np.argsort(-prob_V)[: top_k or V]
  inside = np.zeros(V)
  inside[kept] = prob_V[kept]
  kept = nucleus(inside / inside.sum(), top_p)
  only = np.zeros(V)
  only[kept] = prob_V[kept] / prob_V[kept].sum()
  sc = dataclasses.replace(FREE, top_p=top_p, top_k=top_k)
  shown = token_sampling.truncate(jnp.array(scores())[None], top_p, top_k)[0]
  np.testing.assert_array_equal(np.flatnonzero(shown > -1e29), np.sort(kept))
  hits_V, token, logp = counts(scores(), sc)
  assert_drawn_from(hits_V, only)
  np.testing.assert_allclose(logp, np.log(prob_V[token]), atol=1e-5)


def test_temperature_zero_takes_the_likeliest():
  sc = dataclasses.replace(FREE, temperature=0.0)
  logits_SV = np.random.default_rng(1).standard_normal((5, V)).astype('f')
  key_S = jax.random.split(jax.random.key(0), 5)
  token_S, logp_S = token_sampling.sample_token(jnp.array(logits_SV), key_S, sc)
  np.testing.assert_array_equal(token_S, logits_SV.argmax(axis=1))
  want = [np.log(softmax(x).max()) for x in logits_SV]
  np.testing.assert_allclose(logp_S, want, atol=1e-5)


@pytest.mark.parametrize('size', [3, 256, 594])
def test_no_uniform_number_leads_to_an_index_without_mass(size):
  """594 blocks are a vocabulary of 152,064. Whatever order the sums are made
  in, a number just at a boundary must not fall into a gap."""
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


def test_one_certain_id_is_always_drawn():
  logits_V = np.full(V, lm_head.HIDDEN, np.float32)
  logits_V[300] = 5
  key_S = jax.random.split(jax.random.key(0), 50)
  token_S, logp_S = token_sampling.sample_token(
    jnp.tile(logits_V, (50, 1)), key_S, FREE
  )
  assert (token_S == 300).all() and not logp_S.any()
