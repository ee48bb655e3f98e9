"""The decode kernels of GPUs and TPUs, interpreted."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import toy_model

from r1jax.models import attention, gpu_attention, kernels, tpu_attention
from r1jax.models.families import llama
from r1jax.models.gqa import LayerKind
from r1jax.sampling import decode

CFG = llama.Config(
  vocab_size=31,
  width=12,
  layers=2,
  heads=6,
  kv_heads=2,
  head_dim=16,
  ffn=20,
  kinds=(LayerKind(), LayerKind(window=5)),
  kind_N=(0, 1),
  sinks=True,
  scan_layers=False,
)


def normal(*shape, seed=0):
  return np.float32(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize('module', [gpu_attention, tpu_attention])
@pytest.mark.parametrize(
  'G, C, S, window, softcap, has_sinks',
  [
    (3, 32, 150, 0, 0.0, True),
    (5, 64, 70, 20, 3.0, False),
    (1, 16, 300, 100, 0.0, True),
    (20, 16, 64, 0, 0.0, False),
    (2, 256, 70, 0, 0.0, False),
  ],
)
def test_a_decode_kernel_equals_plain_attention(
  module, G, C, S, window, softcap, has_sinks, monkeypatch
):
  """Rows of any length, also of one column, in caches that blocks do not
  divide; what is behind a row's length is not read."""
  monkeypatch.setattr(tpu_attention, 'BLOCK_BYTES', 1 << 16)
  B, K = 4, 2
  q_B1KGC = normal(B, 1, K, G, C)
  k, v = normal(B, K, S, C, seed=1), normal(B, K, S, C, seed=2)
  length_B = np.int32([1, S, S // 2, min(65, S)])
  form = attention.Form(C**-0.5, softcap)
  visible_B1S = attention.visible(
    length_B[:, None] - 1, np.arange(S)[None], window or None
  )
  sink_KG = 3 * normal(K, G, seed=3) if has_sinks else None
  expected = attention.attend(form, q_B1KGC, (k, v), visible_B1S, sink_KG)
  unread = np.arange(S)[None, None, :, None] >= length_B[:, None, None, None]
  k, v = np.where(unread, 1e30, k), np.where(unread, 0, v)
  out = module.attend_filled(
    form, q_B1KGC, (k, v), length_B, window, sink_KG, interpret=True
  )
  np.testing.assert_allclose(out, expected, atol=1e-6)


@pytest.mark.parametrize('name', kernels.FILLED_CACHE)
def test_decoding_with_the_kernels_samples_the_same_tokens(name, monkeypatch):
  def own_keys(form, q, kv, pos_BT, window, sink_KG):
    visible_BTS = attention.visible(pos_BT, pos_BT, window or None)
    return attention.attend(form, q, kv, visible_BTS, sink_KG)

  kernel = functools.partial(kernels.FILLED_CACHE[name], interpret=True)
  monkeypatch.setitem(kernels.FILLED_CACHE, name, kernel)
  monkeypatch.setitem(kernels.OWN_KEYS, name, own_keys)
  cfg = CFG
  params = toy_model.random_params(cfg)
  prompts = decode.Prompts(
    tokens_PL=np.int32([[3, 4, 5, 6], [7, 8, 9, 0]]),
    length_P=np.int32([4, 3]),
    number_P=np.arange(2, dtype=np.int32),
    first_member_P=np.zeros(2, np.int32),
    max_new_tokens_P=np.int32([13, 13]),
  )
  config = decode.SampleConfig(
    max_new_tokens=13, decode_slots=3, refill_interval=4, eos_ids=(1,)
  )

  def sample(cfg):
    return decode.sample(params, cfg, prompts, jax.random.key(0), 2, config)

  expected = sample(cfg)
  rows = sample(dataclasses.replace(cfg, attention=name))
  np.testing.assert_array_equal(rows.tokens_BL, expected.tokens_BL)
  np.testing.assert_allclose(rows.logp_BL, expected.logp_BL, atol=1e-5)


def test_a_block_without_visible_columns_is_not_read():
  """Its index is that of the nearest block that has some."""
  first, last = tpu_attention._visible_blocks(np.int32(700), 300, 128)
  assert (int(first), int(last)) == (3, 5)  # columns 400 to 699
  first, last = tpu_attention._visible_blocks(np.int32(128), 0, 128)
  assert (int(first), int(last)) == (0, 0)


def test_blocks_are_whole_tiles_of_about_a_mebibyte():
  assert tpu_attention.block_columns(8, 32_768, 128, 2) == 512
  assert tpu_attention.block_columns(1, 32_768, 64, 2) == 8192
  assert tpu_attention.block_columns(64, 300, 256, 4) == 128
  assert tpu_attention.block_columns(1, 300, 64, 2) == 384
