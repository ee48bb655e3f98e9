"""The TPU compiler on small programs, against recorded texts and counts by
hand."""

import contextlib
import dataclasses
import math
import pathlib

import jax
import jax.numpy as jnp
import preflight_programs
import pytest
import toy_deepseek
from toy_preflight import costs_by_name, make_plan

from r1jax.models import attention, kernels
from r1jax.models.attention import CachedLayer
from r1jax.preflight import chips
from r1jax.preflight.compiler import programs, traffic

pytestmark = pytest.mark.tpu
TEXTS = pathlib.Path(__file__).parent / 'hlo'


@pytest.mark.parametrize('name', preflight_programs.AXES)
def test_the_compiler_still_gives_the_recorded_traffic(name):
  program = getattr(preflight_programs, name)().lower().compile()
  new = traffic.measure(program.as_text(), preflight_programs.AXES[name])
  old = traffic.measure(
    (TEXTS / f'{name}.txt').read_text(), preflight_programs.AXES[name]
  )
  assert new.hbm == pytest.approx(old.hbm, rel=0.01)
  assert {k: tuple(v) for k, v in new.table.items()} == {
    k: tuple(v) for k, v in old.table.items()
  }


@pytest.mark.parametrize('head_dim, kv_heads', [(64, 16), (128, 8)])
@pytest.mark.parametrize('scan', [True, False])
@pytest.mark.parametrize('cache_tokens', [0, 2**16])
def test_a_decode_step_copies_no_cache(head_dim, kv_heads, scan, cache_tokens):
  """It moves the weights and the caches, each larger than the memory on the
  chip, once; under pmap, the default. The same if the cache is in pages."""
  plan = make_plan(
    'v5e:1x1',
    parallel__strategy='pmap',
    parallel__tensor_parallel=1,
    micro_batch_size=1,
    grpo__prompts_per_step=1,
    compute__scan_decode=scan,
    sample__cache_tokens=cache_tokens,
  )
  cfg = dataclasses.replace(
    plan.cfg,
    vocab_size=1024,
    real_vocab=1024,
    width=512,
    layers=12 if scan else 2,
    heads=2 * kv_heads,
    kv_heads=kv_heads,
    head_dim=head_dim,
    ffn=512,
  )
  plan = dataclasses.replace(plan, cfg=cfg)
  formula = costs_by_name(plan)
  costs = programs.sampling_costs(plan, formula, programs.placement_of(plan))
  decode = costs[-1]
  assert decode.source == 'compiler'
  assert decode.hbm < 1.15 * formula['decode'].hbm
  assert decode.need < 1.4 * formula['decode'].need


def test_a_decode_step_of_latent_attention_copies_no_cache():
  """Each of its caches is read once, for keys and values."""
  plan = make_plan(
    'v5e:1x1',
    init='deepseek-ai/DeepSeek-R1',
    parallel__strategy='pmap',
    parallel__tensor_parallel=1,
    micro_batch_size=1,
    grpo__prompts_per_step=1,
    compute__scan_decode=True,
  )
  few = dict(experts=8, groups=1, top_groups=1, ffn=128, shared_ffn=128)
  cfg = dataclasses.replace(
    plan.cfg,
    vocab_size=1024,
    real_vocab=1024,
    width=512,
    layers=12,
    dense_layers=1,
    heads=8,
    ffn=512,
    moe=dataclasses.replace(plan.cfg.moe, **few),
  )
  plan = dataclasses.replace(plan, cfg=cfg)
  formula = costs_by_name(plan)
  costs = programs.sampling_costs(plan, formula, programs.placement_of(plan))
  decode = costs[-1]
  assert decode.source == 'compiler'
  assert decode.hbm < 1.3 * formula['decode'].hbm
  assert decode.need < 1.4 * formula['decode'].need


@pytest.mark.parametrize('scan', [True, False])
def test_a_step_of_two_tokens_a_row_copies_no_cache(scan):
  """A token and its draft, over latents; the loop's caches stay in place."""
  cfg = dataclasses.replace(
    toy_deepseek.CFG,
    attention='splash',
    tpu_layout=True,
    scan_layers=scan,
    dtype='bfloat16',
    kv_lora_rank=512,
    qk_rope_head_dim=64,
  )
  rows, tokens, columns, heads, layers = 16, 2, 4096, 8, 4

  def layer(x_BTKGC, cached, new, pos_BT):
    return kernels.decode(
      cfg, cfg.form, x_BTKGC, (new,), cached, pos_BT, None, 512
    )

  def step(n, carry):
    cache, q, new = carry
    pos_BT = jnp.broadcast_to(n + jnp.arange(tokens), (rows, tokens))

    def scan_step(x, number):
      out, kv = layer(x, CachedLayer((cache,), number), new, pos_BT)
      return x + out[..., :1].astype(x.dtype), kv[0]

    if scan:
      q, kv = jax.lax.scan(scan_step, q, jnp.arange(layers))
      cache = attention.write_layers(True, cache, kv, pos_BT[:, 0])
    else:
      out, (cache,) = layer(q, (cache,), new, pos_BT)
      q += out[..., :1].astype(q.dtype)
    return cache, q, new

  def loop(cache, q, new):
    return jax.lax.fori_loop(0, 8, step, (cache, q, new))[:2]

  pod = chips.pod('v5e:1x1', 1)
  sharding = jax.sharding.SingleDeviceSharding(programs.devices_of(pod)[0])
  front = (layers,) if scan else ()
  shapes = [
    jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding)
    for shape in (
      (*front, rows, 1, columns, 576),
      (rows, tokens, 1, heads, 576),
      (rows, 1, tokens, 576),
    )
  ]
  with on_a_v5e():
    lowered = jax.jit(loop, donate_argnums=0).lower(*shapes)
  memory = lowered.compile().memory_analysis()
  cache_bytes = math.prod(shapes[0].shape) * 2
  assert memory.alias_size_in_bytes == cache_bytes
  assert memory.temp_size_in_bytes < cache_bytes / 50


def on_a_v5e():
  """A context in which kernels are lowered without a TPU."""
  if jax.__version_info__ < (0, 11):
    return contextlib.nullcontext()
  device = jax.sharding.AbstractDevice('TPU v5 lite', 1, 'tpu')
  mesh = jax.sharding.AbstractMesh((1,), ('x',), abstract_device=device)
  return jax.sharding.use_abstract_mesh(mesh)


def test_a_donated_cache_is_in_place():
  m = preflight_programs.decode().lower().compile().memory_analysis()
  assert m.alias_size_in_bytes == m.output_size_in_bytes == 8 * 8192 * 512 * 2
