"""Packed rows, which have a prompt once and several responses to it, give the
numbers of rows with a copy of the prompt each."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_deepseek
import toy_model

from r1jax.models import (
  attention,
  gqa,
  packed_attention,
  packing,
  token_logprobs,
)
from r1jax.models.families import llama
from r1jax.models.packing import Packing

P, G, WIDTH, LONGEST = 3, 4, 6, 5  # the first prompt is shorter than WIDTH
CFG = llama.Config(
  vocab_size=28,
  width=16,
  layers=2,
  heads=6,
  kv_heads=2,
  head_dim=4,
  ffn=20,
  kinds=(gqa.LayerKind(), gqa.LayerKind(window=3)),
  kind_N=(1, 0),
  sinks=True,
  remat='full',
  head_chunk=4,
)


def make_rows():
  """(tokens_BL, pos_BL, prompt_BL) with prompts of 2, 4 and 6 tokens and
  responses of 1 to 5."""
  random, shape = np.random.default_rng(0), (P * G, WIDTH + LONGEST)
  prompt_B1 = np.repeat(2 + 2 * np.arange(P), G)[:, None]
  length_B1 = prompt_B1 + 1 + np.arange(P * G)[:, None] % LONGEST
  column_1L = np.arange(shape[1])[None]
  prompt_BL = column_1L < prompt_B1
  prompts = np.repeat(random.integers(0, 28, (P, shape[1])), G, axis=0)
  tokens_BL = np.where(prompt_BL, prompts, random.integers(0, 28, shape))
  pos_BL = np.where(column_1L < length_B1, column_1L, -1)
  return tokens_BL * (pos_BL >= 0), pos_BL, prompt_BL


@functools.partial(jax.jit, static_argnames=('cfg', 'packed'))
def value_and_gradients(params, cfg, packed, routing):
  """((sum, TokenLogprobs), gradients) of a weighted sum of log-probabilities and
  entropies of the responses."""
  tokens_BL, pos_BL, prompt_BL = make_rows()
  weights = np.random.default_rng(1).standard_normal((2, *pos_BL.shape))
  weights *= (pos_BL >= 0) & ~prompt_BL

  def weighted_sum(params):
    args = params, cfg
    if packed:
      args += packed, tokens_BL, pos_BL, prompt_BL
      out = token_logprobs.packed_logprobs(*args, 0.8, routing)
    else:
      args += tokens_BL, pos_BL
      out = token_logprobs.logprobs_and_routing(*args, 0.8, routing)
    total = jnp.sum(weights[0] * out.logp_BL + weights[1] * out.entropy_BL)
    return total, out

  return jax.value_and_grad(weighted_sum, has_aux=True)(params)


def check_equal(cfg, params, responses, routing=None):
  """Compares packed rows of so many responses with rows of one."""
  _, pos_BL, prompt_BL = make_rows()
  is_response_BL = (pos_BL >= 0) & ~prompt_BL
  (_, want), want_gradients = jax.device_get(
    value_and_gradients(params, cfg, None, routing)
  )
  (_, found), gradients = jax.device_get(
    value_and_gradients(params, cfg, Packing(WIDTH, responses), routing)
  )
  for a, b in ((found[0], want[0]), (found[1], want[1])):
    assert (a[~is_response_BL] == 0).all()
    np.testing.assert_allclose(a, b * is_response_BL, rtol=1e-6, atol=1e-6)
  leaves, want_leaves = map(jax.tree.leaves, (gradients, want_gradients))
  largest = max(np.abs(leaf).max() for leaf in want_leaves)
  for a, b in zip(leaves, want_leaves, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * largest)
  return found, want


def test_packed_rows_give_the_same_logprobs_entropies_and_gradients():
  """In scanned layers with and without a window, which are computed again in
  the backward pass."""
  check_equal(CFG, toy_model.random_params(CFG), 4)


def test_latent_attention_and_replayed_experts_of_packed_rows_are_the_same():
  cfg = dataclasses.replace(toy_deepseek.CFG, layers=2)
  column_L, is_token_BL = np.arange(WIDTH + LONGEST), make_rows()[1] >= 0
  # The experts of a prompt are those of all of its rows.
  first_BL = (make_rows()[0] + column_L) % 8
  routing = np.stack([first_BL, (first_BL + 3) % 8], axis=-1)[None]
  params = toy_deepseek.random_params(cfg)
  found, want = check_equal(cfg, params, 4, routing)
  np.testing.assert_array_equal(
    found.routing[:, is_token_BL], want.routing[:, is_token_BL]
  )


@pytest.mark.parametrize('by, window', [('parts', 3), ('a kernel', None)])
def test_attention_of_packed_rows_is_that_of_rows(by, window):
  """With capped scores, and with a kernel that knows no packed rows."""
  form, packed = attention.Form(0.5, softcap=2.0), Packing(WIDTH, G)
  _, pos_BL, prompt_BL = make_rows()
  length_P = jnp.asarray(prompt_BL[::G].sum(axis=1))
  pos_PT = packing.pack_positions(packed, jnp.asarray(pos_BL), length_P)
  K, T = 2, pos_PT.shape[1]
  normal = np.random.default_rng(0).standard_normal
  q, k, v = (
    jnp.float32(normal(shape))
    for shape in ((P, T, K, 3, 4), (P, K, T, 4), (P, K, T, 7))
  )

  def attend_rows(q, kv, pos_BT):
    visible_BTS = attention.visible(pos_BT, pos_BT, window)
    return attention.attend(form, q, kv, visible_BTS)

  def attend(q, k, v):
    if by == 'parts':
      return packed_attention.attend(packed, form, q, (k, v), pos_PT, window)
    args = packed, attend_rows, q, (k, v), pos_PT
    return packed_attention.attend_rows(*args)

  def expected(q, k, v):
    """With a mask over all pairs of tokens."""
    part_T = jnp.concatenate([jnp.zeros(WIDTH), jnp.arange(20) // LONGEST + 1])
    same_1TS = (part_T[None, :, None] == part_T[None, None]) | (
      part_T[None, None] == 0
    )
    visible_PTS = attention.visible(pos_PT, pos_PT, window)
    return attention.attend(form, q, (k, v), visible_PTS & same_1TS)

  is_token = (pos_PT >= 0)[:, :, None, None, None]
  g = is_token * jnp.float32(normal((P, T, K, 3, 7)))

  @functools.partial(jax.jit, static_argnums=0)
  def value_and_gradients(function):
    out, vjp = jax.vjp(function, q, k, v)
    return out * is_token, *vjp(g)

  results = value_and_gradients(attend), value_and_gradients(expected)
  for x, y in zip(*results):
    np.testing.assert_allclose(x, y, rtol=1e-6, atol=2e-6)


def test_unpacking_inverts_packing():
  tokens_BL, pos_BL, prompt_BL = map(jnp.asarray, make_rows())
  for responses in (4, 2, 1):
    packed = Packing(WIDTH, responses)
    length_P = prompt_BL[::responses].sum(axis=1)
    pos_PT = packing.pack_positions(packed, pos_BL, length_P)
    assert pos_PT.shape[1] == WIDTH + responses * LONGEST
    np.testing.assert_array_equal(
      packing.prompt_length(packed, pos_PT), length_P
    )
    np.testing.assert_array_equal(
      packing.unpack_positions(packed, pos_PT, length_P), pos_BL
    )
    tokens_PT = packing.pack(packed, tokens_BL, length_P)
    found = packing.unpack(packed, tokens_PT, length_P)
    np.testing.assert_array_equal(found * (pos_BL >= 0), tokens_BL)
