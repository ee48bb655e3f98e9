"""Rows one after another in packed rows give the numbers of rows of their own."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_deepseek
import toy_model

from r1jax.data import sequences
from r1jax.models import (
  attention,
  gpu_attention,
  gqa,
  sequence_packing,
  token_logprobs,
  tpu_attention,
)
from r1jax.models.families import llama

WIDTH = 13  # columns of the longest row, and of packed rows
PROMPT = np.repeat([2, 5, 1, 4], 3)
LENGTH = PROMPT + np.array([3, 1, 2, 8, 2, 1, 4, 2, 3, 2, 5, 1])
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
  remat='full',
  head_chunk=4,
)


def rows_of(share):
  """A micro-batch of four packed rows; a group of 3 rows has a prompt."""
  random, column_1L = np.random.default_rng(0), np.arange(WIDTH)[None]
  shape = len(LENGTH), WIDTH
  prompts = np.repeat(random.integers(0, 28, (4, WIDTH)), 3, axis=0)
  tokens_BL = random.integers(0, 28, shape)
  tokens_BL = np.where(column_1L < PROMPT[:, None], prompts, tokens_BL)
  pos_BL = np.where(column_1L < LENGTH[:, None], column_1L, -1)
  rows = sequences.unshared(LENGTH)
  if share:
    rows = rows._replace(prompt_B=PROMPT, group_B=rows.group_B // 3)
  layout, *_ = sequences.layouts(rows, 4 * WIDTH, 1, [WIDTH])
  arrays = dict(tokens_BL=tokens_BL * (pos_BL >= 0), pos_BL=pos_BL)
  assert len(layout.source_PT) == 4
  return sequences.with_rows(arrays, layout)


@functools.partial(jax.jit, static_argnames=('cfg', 'is_packed'))
def value_and_gradients(params, cfg, rows, routing, is_packed):
  """((sum, arrays), gradients) of a weighted sum of log-probabilities, entropies
  and those of the module of multi-token prediction."""
  tokens_BL, pos_BL = rows['tokens_BL'], rows['pos_BL']
  weights = np.random.default_rng(1).standard_normal((3, *pos_BL.shape))

  def weighted_sum(params):
    arrays = tokens_BL, pos_BL
    if is_packed:
      layout = rows['source_PT'], rows['place_BL']
      out = token_logprobs.sequence_logprobs(
        params, cfg, *arrays, *layout, 0.8, routing
      )
    else:
      out = token_logprobs.logprobs_and_routing(
        params, cfg, *arrays, 0.8, routing
      )
    found = [out.logp_BL, out.entropy_BL]
    if cfg.keep_mtp:
      mtp_cfg = dataclasses.replace(cfg, sequence_packing=is_packed)
      if is_packed:
        arrays = sequence_packing.pack_sequences(*arrays, rows['source_PT'])
      logp = token_logprobs.mtp_logprobs(
        params, mtp_cfg, out.hidden_BLD, *arrays
      )
      if is_packed:
        logp = sequence_packing.unpack(logp, rows['place_BL'])
      found.append(logp)
    total = sum((w * x).sum() for w, x in zip(weights, found))
    return total, (found, out.routing)

  return jax.value_and_grad(weighted_sum, has_aux=True)(params)


def check_equal(cfg, params, share, routing=None):
  """Values and gradients of packed rows and of rows; the experts of both."""
  rows = rows_of(share)
  results = [
    jax.device_get(value_and_gradients(params, cfg, rows, routing, is_packed))
    for is_packed in (True, False)
  ]
  ((_, (found, experts)), gradients), ((_, (want, other)), want_gradients) = (
    results
  )
  for a, b in zip(found, want, strict=True):
    assert np.abs(b).max() > 0.1
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-6)
  leaves, want_leaves = map(jax.tree.leaves, (gradients, want_gradients))
  largest = max(np.abs(leaf).max() for leaf in want_leaves)
  for a, b in zip(leaves, want_leaves, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * largest)
  if experts is not None:
    real_BL = rows['pos_BL'] >= 0
    np.testing.assert_array_equal(experts[:, real_BL], other[:, real_BL])


def test_packed_rows_that_share_prompts_give_the_same_numbers():
  """Prompts' log-probabilities too; in layers with and without a window."""
  check_equal(CFG, toy_model.random_params(CFG), share=True)


@pytest.mark.slow
def test_experts_latent_attention_and_multi_token_prediction_are_the_same():
  cfg = dataclasses.replace(
    toy_deepseek.CFG, layers=2, mtp_layers=1, keep_mtp=True
  )
  rows = rows_of(share=False)
  first_BL = (rows['tokens_BL'] + np.arange(WIDTH)) % 8
  routing = np.stack([first_BL, (first_BL + 3) % 8], axis=-1)[None]
  check_equal(cfg, toy_deepseek.random_params(cfg), False, routing)


def attention_results(attend, pos_BT, channels, value_channels):
  """(out, gradients of q, k, v) of attend(q, kv, pos_BT) at real tokens."""
  normal, (B, T) = np.random.default_rng(0).standard_normal, pos_BT.shape
  q, k, v, g = (
    jnp.float32(normal(shape))
    for shape in (
      (B, T, 2, 3, channels),
      (B, 2, T, channels),
      (B, 2, T, value_channels),
      (B, T, 2, 3, value_channels),
    )
  )
  real = (pos_BT >= 0)[:, :, None, None, None]
  out, vjp = jax.vjp(lambda q, k, v: attend(q, (k, v), pos_BT) * real, q, k, v)
  return out, *vjp(g)


def plain(form, window):
  """attend by a mask that is written pair by pair, from the rows of tokens."""

  def attend(q, kv, pos_BT):
    row_BT, is_prompt_BT = marks(np.asarray(pos_BT))
    visible = np.asarray(attention.visible(pos_BT, pos_BT, window or None))
    same = row_BT[:, :, None] == row_BT[:, None, :]
    of_prompt = is_prompt_BT[:, None, :] & (
      row_BT[:, :, None] // 10 == row_BT[:, None, :] // 10
    )
    return attention.attend(
      form, q, kv, jnp.asarray(visible & (same | of_prompt))
    )

  return attend


def marks(pos_BT):
  """(10 x sequence + row, whether others share the token) of each token: rows
  of SHARED begin at position 3 of a prompt of 4 tokens."""
  row_BT, is_prompt_BT = np.zeros((2, *pos_BT.shape), int)
  for row_T, is_prompt_T, pos_T in zip(row_BT, is_prompt_BT, pos_BT):
    starts = np.flatnonzero(np.diff(pos_T, prepend=-9) != 1)
    mark = 0
    for start, end in zip(starts, [*starts[1:], len(pos_T)]):
      mark = mark + 1 if pos_T[start] else mark // 10 * 10 + 10
      row_T[start:end] = mark
      is_prompt_T[start:end] = (pos_T[start] == 0) & (pos_T[start:end] < 3)
  return row_BT, is_prompt_BT.astype(bool)


def runs(*pairs, columns):
  pos = np.concatenate([np.arange(*pair) for pair in pairs])
  return np.pad(pos, (0, columns - len(pos)), constant_values=-1)


SHARED = jnp.array(
  [
    runs((0, 7), (3, 6), (3, 9), (0, 8), columns=27),
    runs((0, 5), (0, 9), (3, 5), columns=27),
  ]
)
WHOLE = jnp.array(
  [
    runs((0, 70), (0, 30), (0, 20), columns=131),
    runs((0, 131), columns=131),
  ]
)


@pytest.mark.parametrize('window', [0, 4])
def test_a_key_is_visible_in_its_row_and_that_of_a_prompt_in_all(window):
  form = attention.Form(0.3)

  def attend(q, kv, pos_BT):
    visible = sequence_packing.visible_keys(pos_BT, window or None)
    return attention.attend(form, q, kv, visible)

  found = attention_results(attend, SHARED, 8, 6)
  want = attention_results(plain(form, window), SHARED, 8, 6)
  for a, b in zip(found, want):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('window', [0, 4])
def test_cudnn_is_asked_for_the_visible_keys(window, monkeypatch):
  by_xla = jax.nn.dot_product_attention

  def xla(*args, implementation, **options):
    assert implementation == 'cudnn' and args[0].shape[1] % 2 == 0
    return by_xla(*args, implementation='xla', **options)

  monkeypatch.setattr(jax.nn, 'dot_product_attention', xla)
  form = attention.Form(0.3)
  kernel = functools.partial(gpu_attention.flash_packed, form, window=window)
  found = attention_results(kernel, SHARED, 8, 6)
  want = attention_results(plain(form, window), SHARED, 8, 6)
  for a, b in zip(found, want):
    np.testing.assert_allclose(a, b, atol=2e-6)


def test_the_kernel_of_tpus_attends_within_sequences():
  form = attention.Form(128**-0.5)
  kernel = functools.partial(tpu_attention.splash, form, interpret=True)
  found = jax.jit(lambda: attention_results(kernel, WHOLE, 128, 128))()
  want = attention_results(plain(form, 0), WHOLE, 128, 128)
  for a, b in zip(found, want):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())
