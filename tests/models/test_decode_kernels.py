"""The decode kernels of GPUs and TPUs, interpreted."""

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
  gpu_decode,
  kernels,
  paging,
  tpu_decode,
  transformer,
)
from r1jax.models.attention import CachedLayer
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
LATENT = dataclasses.replace(
  toy_deepseek.CFG,
  vocab_size=31,
  kv_lora_rank=16,
  qk_rope_head_dim=16,
  layers=2,
  mtp_layers=1,
  keep_mtp=True,
  scan_layers=False,
)


def normal(*shape, seed=0):
  return np.float32(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize('module', [gpu_decode, tpu_decode])
@pytest.mark.parametrize(
  'T, G, C, V, S, window, softcap',
  [
    (1, 3, 32, 32, 150, None, 0.0),
    (1, 5, 64, 64, 70, 20, 3.0),
    (2, 1, 16, 16, 300, 100, 0.0),
    (1, 20, 16, 16, 64, None, 0.0),
    (1, 2, 256, 256, 70, None, 0.0),
    (2, 3, 48, 32, 150, None, 0.0),
    (1, 40, 80, 64, 70, None, 0.0),
  ],
)
def test_a_decode_kernel_equals_plain_attention(
  module, T, G, C, V, S, window, softcap, monkeypatch
):
  """Rows of any length, also of one column, in caches that blocks do not
  divide; what is behind a row's length is not read. With V < C the values are
  the first channels of the keys."""
  monkeypatch.setattr(tpu_decode, 'BLOCK_BYTES', 1 << 16)
  B, K = 4, 2
  q_BTKGC = normal(B, T, K, G, C)
  k = normal(B, K, S, C, seed=1)
  v = normal(B, K, S, C, seed=2) if V == C else k
  length_B = np.int32([T, S, S // 2, min(65, S)])
  form = attention.Form(C**-0.5, softcap)
  pos_BT = length_B[:, None] - T + np.arange(T)[None]
  visible_BTS = attention.visible(pos_BT, np.arange(S)[None], window)
  expected = attention.attend_with_lse(form, q_BTKGC, (k, v), visible_BTS)
  unread = np.arange(S)[None, None, :, None] >= length_B[:, None, None, None]
  v = np.where(unread, 0, v)
  arrays = (np.where(unread, 1e30, k), v) if V == C else (v,)
  layer = CachedLayer(tuple(a[None] for a in arrays), 0)
  out, lse = module.attend_filled(
    form, q_BTKGC, layer, pos_BT[:, 0], length_B, window, V, interpret=True
  )
  np.testing.assert_allclose(out, expected[0][..., :V], atol=1e-6)
  np.testing.assert_allclose(lse, expected[1], atol=2e-6)


@pytest.mark.parametrize('module', [gpu_decode, tpu_decode])
@pytest.mark.parametrize(
  'T, C, V, page, window',
  [(1, 32, 32, 64, None), (2, 256, 256, 64, 100), (2, 48, 32, 128, None)],
)
def test_a_decode_kernel_reads_pages(
  module, T, C, V, page, window, monkeypatch
):
  """Pages in any order, of which those behind a row's length are nobody's."""
  monkeypatch.setattr(tpu_decode, 'BLOCK_BYTES', 1 << 18)
  monkeypatch.setattr(tpu_decode, 'MAX_PAGES', 3)
  B, K, N = 4, 2, 5
  q_BTKGC = normal(B, T, K, 3, C)
  pool = [normal(B * N + 1, K, page, C, seed=n) for n in range(2 - (V < C))]
  length_B = np.int32([T, N * page, N * page // 2, page + 1])
  table_BN = np.random.default_rng(0).permutation(B * N).reshape(B, N)
  first_BN = np.broadcast_to(np.arange(N)[None] * page, (B, N))
  table_BN = np.int32(np.where(first_BN < length_B[:, None], table_BN, B * N))
  unread = np.setdiff1d(np.arange(B * N), table_BN)
  for a in pool:
    a[unread] = np.nan
  cache = tuple(paging.Pages(a, table_BN) for a in pool)
  kv = [paging.rows(a) for a in cache]
  form = attention.Form(C**-0.5)
  pos_BT = length_B[:, None] - T + np.arange(T)[None]
  visible_BTS = attention.visible(pos_BT, np.arange(N * page)[None], window)
  expected = attention.attend_with_lse(
    form, q_BTKGC, (kv[0], kv[-1]), visible_BTS
  )
  layer = CachedLayer(jax.tree.map(lambda a: a[None], cache), 0)
  out, lse = module.attend_filled(
    form, q_BTKGC, layer, pos_BT[:, 0], length_B, window, V, interpret=True
  )
  np.testing.assert_allclose(out, expected[0][..., :V], atol=2e-6)
  np.testing.assert_allclose(lse, expected[1], atol=2e-6)


def interpreted(cfg, name, monkeypatch):
  """The config with a device's kernels, of which that of decoding is interpreted
  and the other computed by plain products."""

  def own_keys(form, q, kv, pos_BT, window=0, sink_KG=None):
    visible_BTS = attention.visible(pos_BT, pos_BT, window or None)
    return attention.attend(form, q, kv, visible_BTS, sink_KG)

  kernel = functools.partial(kernels.FILLED_CACHE[name], interpret=True)
  monkeypatch.setitem(kernels.FILLED_CACHE, name, kernel)
  monkeypatch.setitem(kernels.OWN_KEYS, name, own_keys)
  cfg = dataclasses.replace(cfg, attention=name)
  assert cfg.reads_filled_cache
  return cfg


FORMS = [
  ('cudnn', CFG),
  ('cudnn', LATENT),
  ('splash', CFG),
  ('splash', LATENT),
  ('splash', dataclasses.replace(CFG, scan_layers=True)),
  ('splash', dataclasses.replace(LATENT, scan_layers=True)),
]
NAMES = ['gpu', 'gpu_mla', 'tpu', 'tpu_mla', 'tpu_scan', 'tpu_mla_scan']


@pytest.mark.parametrize('name, cfg', FORMS, ids=NAMES)
def test_a_step_with_the_kernel_equals_one_without(name, cfg, monkeypatch):
  """Two tokens a row, as with a draft, over caches with anything behind what
  rows hold; the first row holds nothing."""
  params, pos_BT = toy_model.random_params(cfg), jnp.array([[0, 1], [7, 8]])
  tokens_BT = np.int32([[3, 4], [5, 6]])
  empty = transformer.init_cache(cfg, 2, 9)
  leaves, tree = jax.tree.flatten(empty)
  noise = [normal(*a.shape, seed=n) for n, a in enumerate(leaves)]
  past = jax.tree.unflatten(tree, noise)

  def step(cfg):
    out = transformer.forward(params, cfg, tokens_BT, pos_BT, past)
    return out.hidden_BTD, out.cache

  step = jax.jit(step, static_argnums=0)
  expected, found = step(cfg), step(interpreted(cfg, name, monkeypatch))
  for a, b in zip(*(jax.tree.leaves(x) for x in (found, expected))):
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
  'name, cfg',
  [
    pytest.param(
      *form, id=name, marks=[pytest.mark.slow] * (name != 'tpu_scan')
    )
    for form, name in zip(FORMS, NAMES)
  ],
)
def test_decoding_with_the_kernels_samples_the_same_tokens(
  name, cfg, monkeypatch
):
  assert_same_samples(name, cfg, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize('name, cfg', FORMS, ids=NAMES)
def test_decoding_from_pages_samples_the_same_tokens(name, cfg, monkeypatch):
  """Pages of 64 columns, which GPUs need, hold whole rows."""
  page = 64 if name == 'cudnn' else 4
  pages = dict(cache_tokens=20 * page // 4, page_tokens=page)
  assert_same_samples(name, cfg, monkeypatch, **pages)


def assert_same_samples(name, cfg, monkeypatch, **pages):
  params = toy_model.random_params(cfg)
  prompts = decode.Prompts(
    tokens_PL=np.int32([[3, 4, 5, 6], [7, 8, 9, 0]]),
    length_P=np.int32([4, 3]),
    number_P=np.arange(2, dtype=np.int32),
    first_member_P=np.zeros(2, np.int32),
    max_new_tokens_P=np.int32([13, 13]),
  )
  config = decode.SampleConfig(
    max_new_tokens=13,
    decode_slots=3,
    refill_interval=4,
    eos_ids=(1,),
    draft=bool(cfg.mtp_layers),
  )

  def sample(cfg, config):
    return decode.sample(params, cfg, prompts, jax.random.key(0), 2, config)

  expected = sample(cfg, config)
  config = dataclasses.replace(config, **pages)
  rows = sample(interpreted(cfg, name, monkeypatch), config)
  np.testing.assert_array_equal(rows.tokens_BL, expected.tokens_BL)
  np.testing.assert_allclose(rows.logp_BL, expected.logp_BL, atol=1e-5)


@pytest.mark.parametrize(
  'pos, length, window, blocks',
  [
    (699, 700, 300, (3, 5)),  # columns 400 to 699
    (127, 128, tpu_decode.NO_WINDOW, (0, 0)),
    (0, 0, tpu_decode.NO_WINDOW, (0, 0)),
  ],
)
def test_a_block_without_visible_columns_is_not_read(
  pos, length, window, blocks
):
  """Its index is that of the nearest block that has some."""
  found = tpu_decode.visible_blocks(pos, length, window, 128)
  assert tuple(map(int, found)) == blocks


def test_blocks_are_whole_tiles_of_about_a_mebibyte():
  assert tpu_decode.block_columns(8, 32_768, 128, 2) == 512
  assert tpu_decode.block_columns(1, 32_768, 64, 2) == 8192
  assert tpu_decode.block_columns(64, 300, 256, 4) == 128
  assert tpu_decode.block_columns(1, 300, 64, 2) == 384
