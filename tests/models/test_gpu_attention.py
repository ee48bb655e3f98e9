"""Attention of GPUs, as far as CPUs can tell: the decode kernel interpreted, the
arguments of cuDNN's kernel, and what both are lowered to."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_deepseek
from jax._src.cudnn import fused_attention_stablehlo

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.models import (
  attention,
  gpu_attention,
  gpu_decode,
  token_logprobs,
  transformer,
)
from r1jax.models.families import gemma, llama
from r1jax.models.gqa import LayerKind

CUDNN_VERSION = 91_000
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
)


def normal(*shape, seed=0):
  return np.float32(np.random.default_rng(seed).standard_normal(shape))


def plain_flash(monkeypatch):
  """Lets XLA compute what cuDNN's kernel is asked for."""
  attend = jax.nn.dot_product_attention

  def by_xla(*args, implementation, **options):
    assert implementation == 'cudnn'
    return attend(*args, implementation='xla', **options)

  monkeypatch.setattr(jax.nn, 'dot_product_attention', by_xla)


@pytest.mark.parametrize('window', [0, 4])
def test_flash_is_asked_for_plain_attention(window, monkeypatch):
  """Values and gradients at real tokens, of rows padded at the end, and of
  values with fewer channels than keys."""
  plain_flash(monkeypatch)
  B, T, K, G, C = 3, 11, 2, 3, 8
  q, g = normal(B, T, K, G, C), normal(B, T, K, G, C - 2, seed=3)
  k, v = normal(B, K, T, C, seed=1), normal(B, K, T, C - 2, seed=2)
  length_B1 = np.int32([[T], [4], [0]])
  pos_BT = np.where(np.arange(T)[None] < length_B1, np.arange(T)[None], -1)
  real = (pos_BT >= 0)[:, :, None, None, None]
  form = attention.Form(0.3)

  def plain(q, k, v):
    visible_BTS = attention.visible(pos_BT, pos_BT, window or None)
    return real * attention.attend(form, q, (k, v), visible_BTS)

  def flash(q, k, v):
    return real * gpu_attention.flash(form, q, (k, v), pos_BT, window)

  expected, vjp = jax.vjp(plain, q, k, v)
  out, flash_vjp = jax.vjp(flash, q, k, v)
  np.testing.assert_allclose(out, expected, atol=1e-6)
  for a, b in zip(flash_vjp(g), vjp(g)):
    np.testing.assert_allclose(a, b, atol=2e-6)


def lowered(fn, *args):
  """What fn is lowered to for GPUs of NVIDIA."""
  traced = jax.jit(fn).trace(*args)
  return traced.lower(lowering_platforms=('cuda',)).as_text()


def on_an_h100():
  """A context in which kernels of Triton are lowered without a GPU."""
  if jax.__version_info__ < (0, 11):
    return contextlib.nullcontext()
  device = jax.sharding.AbstractDevice('NVIDIA H100 80GB HBM3', 132, 'gpu')
  mesh = jax.sharding.AbstractMesh((1,), ('x',), abstract_device=device)
  return jax.sharding.use_abstract_mesh(mesh)


def test_training_is_lowered_to_the_kernels_of_cudnn(monkeypatch):
  """Forward and backward; no array of all scores is left."""
  monkeypatch.setattr(
    fused_attention_stablehlo, 'check_cudnn_version', lambda: CUDNN_VERSION
  )
  cfg = dataclasses.replace(CFG, dtype='bfloat16', attention='cudnn')
  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  tokens_BL = jax.ShapeDtypeStruct((3, 40), jnp.int32)

  def loss(params, tokens_BL, pos_BL):
    return token_logprobs.logprobs(params, cfg, tokens_BL, pos_BL)[0].sum()

  text = lowered(jax.grad(loss), shapes, tokens_BL, tokens_BL)
  assert '__cudnn$fmhaSoftmax(' in text and 'fmhaSoftmaxBackward(' in text
  assert '40x40' not in text
  plain = dataclasses.replace(cfg, attention='einsum')
  loss_of_plain = functools.partial(token_logprobs.logprobs, cfg=plain)
  text = lowered(
    lambda *args: loss_of_plain(args[0], tokens_BL=args[1], pos_BL=args[2])[0],
    *(shapes, tokens_BL, tokens_BL),
  )
  assert '40x40' in text


def test_packed_rows_are_lowered_to_the_kernels_of_cudnn(monkeypatch):
  """With a mask; an odd number of columns has one more for the kernel."""
  monkeypatch.setattr(
    fused_attention_stablehlo, 'check_cudnn_version', lambda: CUDNN_VERSION
  )
  q = jax.ShapeDtypeStruct((3, 41, 2, 3, 16), jnp.bfloat16)
  kv = (jax.ShapeDtypeStruct((3, 2, 41, 16), jnp.bfloat16),) * 2
  pos_BT = jax.ShapeDtypeStruct((3, 41), jnp.int32)

  def total(q, kv, pos_BT):
    form = attention.Form(0.25)
    return gpu_attention.flash_packed(form, q, kv, pos_BT).sum()

  text = lowered(jax.grad(total, argnums=(0, 1)), q, kv, pos_BT)
  assert '__cudnn$fmhaScaleBiasSoftmax(' in text
  assert 'fmhaScaleBiasSoftmaxBackward(' in text
  assert '3x1x42x42xbf16' in text and '3x6x42x42' not in text


def test_a_decode_step_is_lowered_to_the_kernel():
  cfg = dataclasses.replace(
    CFG, dtype='bfloat16', attention='cudnn', scan_layers=False
  )

  def step(params, tokens_B1, pos_B1, cache):
    params, loop_cfg = transformer.for_decoding(params, cfg)
    return transformer.forward(params, loop_cfg, tokens_B1, pos_B1, cache)

  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  cache = jax.eval_shape(lambda: transformer.init_cache(cfg, 3, 77))
  token_B1 = jax.ShapeDtypeStruct((3, 1), jnp.int32)
  with on_an_h100():
    text = lowered(step, shapes, token_B1, token_B1, cache)
  assert text.count('triton') == cfg.layers


def compute(cfg, backend, capability=0.0, **options):
  options = policy.ComputeConfig(**options)
  return policy.with_compute(cfg, options, backend, capability).attention


def test_each_kind_of_device_has_its_attention():
  scanned = dataclasses.replace(CFG, scan_layers=True)
  bfloat16 = dict(dtype='bfloat16')
  assert compute(scanned, 'cpu', **bfloat16) == 'einsum'
  assert compute(scanned, 'tpu') == 'splash'
  assert compute(scanned, 'gpu', 9.0, **bfloat16) == 'cudnn'
  assert compute(scanned, 'gpu', 8.0, **bfloat16) == 'cudnn'
  assert compute(scanned, 'gpu', 7.5, **bfloat16) == 'einsum'
  assert compute(scanned, 'gpu', 9.0) == 'einsum'  # float32
  wide = dataclasses.replace(CFG, head_dim=256)
  assert compute(wide, 'gpu', 9.0, **bfloat16) == 'cudnn'
  assert compute(wide, 'gpu', 8.0, **bfloat16) == 'einsum'
  assert (
    compute(scanned, 'gpu', 9.0, attention='einsum', **bfloat16) == 'einsum'
  )


@pytest.mark.parametrize(
  'backend, capability, options, words',
  [
    ('cpu', 0.0, dict(dtype='bfloat16'), 'the devices are of the kind cpu'),
    ('tpu', 0.0, dict(dtype='bfloat16'), 'the devices are of the kind tpu'),
    ('gpu', 7.5, dict(dtype='bfloat16'), 'compute capability 7.5'),
    ('gpu', 9.0, {}, 'config.compute.dtype is float32'),
  ],
)
def test_cudnn_is_refused_where_it_is_not_to_be_had(
  backend, capability, options, words
):
  with pytest.raises(errors.UserError, match=words):
    compute(CFG, backend, capability, attention='cudnn', **options)


def test_capped_scores_have_no_kernel_of_cudnn():
  capped = gemma.Config(
    vocab_size=31,
    width=12,
    layers=2,
    heads=6,
    kv_heads=2,
    head_dim=16,
    ffn=20,
    query_scalar=16,
    score_softcap=50.0,
  )
  capped = dataclasses.replace(capped, dtype='bfloat16')
  assert 'capped' in gpu_attention.obstacle(capped, 9.0)
  with_sinks = dataclasses.replace(CFG, dtype='bfloat16', sinks=True)
  assert 'sinks' in gpu_attention.obstacle(with_sinks, 9.0)


def test_a_cache_with_more_than_32_bit_offsets_has_no_kernel():
  def keys(length):
    array = jax.ShapeDtypeStruct((64, 8, length, 128), jnp.bfloat16)
    return array, array

  assert gpu_decode.has_offsets(keys(32_767))
  assert not gpu_decode.has_offsets(keys(32_768))


def test_only_heads_of_a_power_of_two_have_the_decode_kernel():
  sizes = (8, 16, 64, 96, 128, 576)
  has = [gpu_decode.has_kernel(channels, channels) for channels in sizes]
  assert has == [False, True, True, False, True, False]
  assert gpu_decode.has_kernel(576, 512)  # read as 512 and 64
  cfg = dataclasses.replace(CFG, attention='cudnn', scan_layers=False)
  assert cfg.reads_filled_cache
  assert not dataclasses.replace(cfg, head_dim=96).reads_filled_cache
  assert not dataclasses.replace(cfg, scan_layers=True).reads_filled_cache
  latent = dataclasses.replace(
    toy_deepseek.CFG,
    attention='cudnn',
    kv_lora_rank=512,
    qk_rope_head_dim=64,
    scan_layers=False,
  )
  assert latent.reads_filled_cache
  assert not dataclasses.replace(latent, absorbed=False).reads_filled_cache
