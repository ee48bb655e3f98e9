"""The chunked head is the plain log-softmax, without its memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import lm_head, sharding, transformer

B, T, D, V = 2, 7, 5, 13
REAL = 11


def arrays():
  random = np.random.default_rng(0)
  hidden_BTD = random.standard_normal((B, T, D), np.float32)
  table_VD = random.standard_normal((V, D), np.float32)
  pull_BT = random.standard_normal((B, T), np.float32)
  return hidden_BTD, table_VD, random.integers(0, REAL, (B, T)), pull_BT


def naive(hidden_BTD, table_VD, target_BT, temperature, real_vocab):
  scores = hidden_BTD @ table_VD[: real_vocab or V].T / temperature
  every = jax.nn.log_softmax(scores, axis=-1)
  chosen = jnp.take_along_axis(every, target_BT[..., None], axis=-1)[..., 0]
  return chosen, -jnp.sum(jnp.exp(every) * every, axis=-1)


def pulled(fn, hidden_BTD, table_VD, pull_BT):
  """Values of fn(hidden, table), and gradients of sum(pull * logp)."""

  def total(*args):
    return (jnp.sum(pull_BT * fn(*args)[0]), fn(*args))

  grad = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
  (_, values), grads = grad(hidden_BTD, table_VD)
  return values, grads


@pytest.mark.parametrize(
  'chunk, temperature, real_vocab, cpu_layout',
  [
    (1, 1.0, 0, False),
    (3, 0.6, REAL, False),
    (4, 1.3, REAL, True),
    (7, 1.0, REAL, False),
    (128, 0.6, 0, True),
  ],
)
def test_values_and_gradients_are_those_of_log_softmax(
  chunk, temperature, real_vocab, cpu
):
  hidden_BTD, table_VD, target_BT, pull_BT = arrays()

  def plain(h, t):
    return naive(h, t, target_BT, temperature, real_vocab)

  how = lm_head.How(
    sharding.NoSharding(), 'head', 'float32', temperature, real_vocab, cpu
  )

  def chunked(h, t):
    return lm_head.token_logprobs(how, chunk, h, t, target_BT)

  want = pulled(plain, hidden_BTD, table_VD, pull_BT)
  got = pulled(chunked, hidden_BTD, table_VD, pull_BT)
  for x, y in zip(jax.tree.leaves(got)[:3], jax.tree.leaves(want)[:3]):
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)
  dtable_VD, want_VD = got[1][1], want[1][1]
  np.testing.assert_allclose(dtable_VD, want_VD, rtol=0, atol=1e-5)
  assert not real_vocab or not dtable_VD[REAL:].any()


def test_padding_of_the_vocabulary_has_no_probability():
  hidden_BTD, table_VD, _, _ = arrays()
  logits = lm_head.logits(
    sharding.NoSharding(), 100 * hidden_BTD, table_VD, REAL
  )
  assert logits.dtype == jnp.float32
  prob = jax.nn.softmax(logits, axis=-1)
  assert not prob[..., REAL:].any()
  np.testing.assert_allclose(prob[..., :REAL].sum(axis=-1), 1, rtol=1e-6)


def test_the_entropy_passes_no_gradient():
  hidden_BTD, table_VD, target_BT, _ = arrays()
  how = lm_head.How(sharding.NoSharding(), 'head', 'float32', 1.0, 0, False)

  def entropy(h, t):
    return lm_head.token_logprobs(how, 3, h, t, target_BT)[1].sum()

  for grad in jax.grad(entropy, argnums=(0, 1))(hidden_BTD, table_VD):
    assert not grad.any()


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('cpu_layout', [False, True])
def test_the_gradient_holds_few_chunks_of_logits_at_vocabulary_150k(
  dtype, cpu_layout
):
  cfg = transformer.ModelConfig(
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
  L, V = 512, cfg.vocab_size
  tokens_BL = jax.ShapeDtypeStruct((1, L), jnp.int32)
  params = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))

  @jax.jit
  def gradient(params, tokens_BL):
    pos_BL = jnp.arange(L)[None]

    def loss(p):
      return transformer.logprobs(p, cfg, tokens_BL, pos_BL)[0].sum()

    return jax.grad(loss)(params)

  memory = gradient.lower(params, tokens_BL).compile().memory_analysis()
  chunk, table, logits = 4 * 32 * V, 4 * 16 * V, 4 * L * V
  print(
    'TEMP', memory.temp_size_in_bytes / chunk, memory.temp_size_in_bytes / 1e6
  )
  assert memory.temp_size_in_bytes < 3 * chunk + 4 * table
  assert memory.temp_size_in_bytes < logits / 3
