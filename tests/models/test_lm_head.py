"""The chunked head equals the plain log-softmax of full logits, forward and
backward, without storing the logits."""

import dataclasses
import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from r1jax.models import lm_head, sharding, token_logprobs, transformer
from r1jax.models.families import llama

B, T, D, V = 2, 7, 5, 12
REAL = 11
CONFIG = llama.Config(
  vocab_size=V,
  width=D,
  layers=1,
  heads=1,
  kv_heads=1,
  head_dim=2,
  ffn=1,
  tie_embeddings=False,
  real_vocab=REAL,
  head_chunk=3,
)
TEMPERATURE = 0.6
FORMS = [
  (1.0, dict(head_chunk=1, real_vocab=0)),
  (0.6, dict()),
  (1.3, dict(head_chunk=4, cpu_layout=True)),
  (0.6, dict(head_chunk=7)),
  (0.6, dict(head_chunk=128, real_vocab=0, cpu_layout=True)),
]
# Which of log-probability and entropy a loss contains.
TERMS = [(1, 0), (0, 1), (1, 1)]


def arrays():
  random = np.random.default_rng(0)
  hidden_BTD = random.standard_normal((B, T, D), np.float32)
  table_VD = random.standard_normal((V, D), np.float32)
  return hidden_BTD, table_VD, random.integers(0, REAL, (B, T))


def plain_logprobs(config, temperature, hidden_BTD, table_VD, target_BT):
  """(log p(target), entropy) from the full logits."""
  table_VD = table_VD[: config.real_vocab or V]
  logits_BTV = hidden_BTD @ table_VD.T
  logp_BTV = jax.nn.log_softmax(logits_BTV / temperature, axis=-1)
  logp_BT = jnp.take_along_axis(logp_BTV, target_BT[..., None], axis=-1)
  return logp_BT[..., 0], -jnp.sum(jnp.exp(logp_BTV) * logp_BTV, axis=-1)


def loss(logprobs, config, temperature, terms, hidden_BTD, table_VD, target_BT):
  """(a weighted sum of the terms, both results); weights differ by token."""
  results = logprobs(config, temperature, hidden_BTD, table_VD, target_BT)
  weight_BT = jnp.sin(jnp.arange(B * T)).reshape(B, T)
  total = jnp.zeros(())
  for result_BT, term in zip(results, terms):
    if term:
      total += jnp.sum(weight_BT * result_BT)
    weight_BT = jnp.cos(weight_BT)
  return total, results


@functools.partial(jax.jit, static_argnames='config')
def expected(config, temperature, terms):
  """The results of results_and_grads by the full logits, in one program for
  all temperatures and terms."""

  def plain_loss(*both):
    total = 0.0
    weight_BT = jnp.sin(jnp.arange(B * T)).reshape(B, T)
    results = plain_logprobs(config, temperature, *both, arrays()[2])
    for result_BT, term in zip(results, terms):
      total += term * jnp.sum(weight_BT * result_BT)
      weight_BT = jnp.cos(weight_BT)
    return total, results

  grad = jax.value_and_grad(plain_loss, argnums=(0, 1), has_aux=True)
  (_, results), grads = grad(*arrays()[:2])
  return results, grads


def results_and_grads(logprobs, config, terms, temperature=TEMPERATURE):
  """(both results, gradients of hidden states and table) under jit."""
  fn = functools.partial(loss, logprobs, config, temperature, terms)
  fn = jax.jit(jax.value_and_grad(fn, argnums=(0, 1), has_aux=True))
  (_, results), grads = fn(*arrays())
  return results, grads


def assert_close(a, b, tolerance=2e-5):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize('terms', TERMS, ids=str)
@pytest.mark.parametrize('form', FORMS, ids=str)
def test_values_and_gradients_equal_those_of_full_logits(form, terms):
  temperature, changes = form
  config = dataclasses.replace(CONFIG, **changes)
  got = results_and_grads(lm_head.token_logprobs, config, terms, temperature)
  plain = dataclasses.replace(CONFIG, real_vocab=config.real_vocab)
  want = expected(plain, temperature, terms)
  assert_close(got, want)
  dtable_VD = got[1][1]
  assert not config.real_vocab or not dtable_VD[REAL:].any()


@pytest.mark.parametrize('cpu_layout', [False, True])
def test_bfloat16_products_give_gradients_near_those_of_float32(cpu_layout):
  config = dataclasses.replace(CONFIG, dtype='bfloat16', cpu_layout=cpu_layout)

  def logprobs(config, temperature, hidden_BTD, *args):
    hidden_BTD = hidden_BTD.astype(config.dtype)
    return lm_head.token_logprobs(config, temperature, hidden_BTD, *args)

  for terms in TERMS:
    _, grads = results_and_grads(logprobs, config, terms)
    _, exact = expected(CONFIG, TEMPERATURE, terms)
    for got, want in zip(grads, exact):
      assert got.dtype == jnp.float32
      assert np.linalg.norm(got - want) < 0.02 * np.linalg.norm(want)


@pytest.mark.parametrize('terms', TERMS, ids=str)
@pytest.mark.parametrize('data, model', [(1, 4), (2, 2)])
def test_a_sharded_vocabulary_gives_the_same_gradients(data, model, terms):
  """Rows and the table's columns are sharded over 'data', ids over 'model'."""
  mesh = jax.make_mesh(
    (data, model),
    ('data', 'model'),
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
    devices=jax.devices()[:4],
  )
  sharded = dataclasses.replace(
    CONFIG,
    sharding=sharding.FsdpTensorParallel(
      tensor_parallel=model, fsdp_axes=(('head', -1),)
    ),
  )
  hidden_BTD, table_VD, target_BT = (
    np.concatenate([a] * data) if a.ndim == 3 or a.shape == (B, T) else a
    for a in arrays()
  )
  table_VD = np.pad(table_VD, ((0, 0), (0, 1)))  # two shards of columns
  hidden_BTD = np.pad(hidden_BTD, ((0, 0), (0, 0), (0, 1)))

  def grads(hidden_BTD, table_VD, target_BT):
    def copy_of_loss(hidden_BTD, table_VD):
      arrays = hidden_BTD, table_VD, target_BT
      total, results = loss(
        lm_head.token_logprobs, sharded, TEMPERATURE, terms, *arrays
      )
      return total / model / data, results

    grads, results = jax.grad(copy_of_loss, argnums=(0, 1), has_aux=True)(
      hidden_BTD, table_VD
    )
    return results, (jax.lax.psum(grads[0], 'model'), grads[1])

  rows, table = P('data'), P('model', 'data')
  results, (dhidden_BTD, dtable_VD) = jax.jit(
    jax.shard_map(
      grads,
      mesh=mesh,
      in_specs=(rows, table, rows),
      out_specs=((rows, rows), (rows, table)),
      check_vma=False,
    )
  )(hidden_BTD, table_VD, target_BT)
  got = [a[:B] for a in results], (dhidden_BTD[:B, :, :D], dtable_VD[:, :D])
  want_results, (want_dhidden, want_dtable) = results_and_grads(
    lm_head.token_logprobs, CONFIG, terms
  )
  # Each copy of the rows has 1 / data of the loss.
  assert_close(got, (list(want_results), (want_dhidden / data, want_dtable)))


def equations(jaxpr):
  """The number of equations, those of inner jaxprs included."""
  total = len(jaxpr.eqns)
  for eqn in jaxpr.eqns:
    for inner in jax.extend.core.jaxprs_in_params(eqn.params):
      total += equations(inner)
  return total


def test_a_loss_without_entropy_does_not_compute_its_gradient():
  def size(terms):
    fn = functools.partial(
      loss, lm_head.token_logprobs, CONFIG, TEMPERATURE, terms
    )
    grad = jax.grad(fn, argnums=(0, 1), has_aux=True)
    return equations(jax.make_jaxpr(grad)(*arrays()).jaxpr)

  # Without entropy the two additional terms of the backward pass are missing.
  assert size((1, 0)) < size((1, 1)) - 8


def test_padding_of_the_vocabulary_has_no_probability():
  hidden_BTD, table_VD, _ = arrays()
  logits = lm_head.logits(CONFIG, 100 * hidden_BTD, table_VD)
  assert logits.dtype == jnp.float32
  prob = jax.nn.softmax(logits, axis=-1)
  assert not prob[..., REAL:].any()
  np.testing.assert_allclose(prob[..., :REAL].sum(axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('cpu_layout', [False, True])
@pytest.mark.parametrize('entropy', [False, True])
def test_the_gradient_stores_few_chunks_of_logits_at_vocabulary_150k(
  dtype, cpu_layout, entropy
):
  cfg = llama.Config(
    vocab_size=151_936,
    width=16,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=8,
    ffn=24,
    real_vocab=151_669,
    head_chunk=32,
    dtype=dtype,
    cpu_layout=cpu_layout,
  )
  L = 512
  tokens_BL = jax.ShapeDtypeStruct((1, L), jnp.int32)
  params = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))

  @jax.jit
  def gradient(params, tokens_BL):
    pos_BL = jnp.arange(L)[None]

    def loss(params):
      logp_BL, entropy_BL = token_logprobs.logprobs(
        params, cfg, tokens_BL, pos_BL
      )
      return logp_BL.sum() + (entropy_BL.sum() if entropy else 0)

    return jax.grad(loss)(params)

  memory = gradient.lower(params, tokens_BL).compile().memory_analysis()
  chunk, table = 4 * 32 * cfg.vocab_size, 4 * 16 * cfg.vocab_size
  logits = 4 * L * cfg.vocab_size
  assert memory.temp_size_in_bytes < 3 * chunk + 4 * table
  assert memory.temp_size_in_bytes < logits / 3
