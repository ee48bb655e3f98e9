"""The TPU compiler on small programs, against recorded texts and counts by
hand."""

import dataclasses
import pathlib

import preflight_programs
import pytest
from toy_preflight import costs_by_name, make_plan

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


@pytest.mark.parametrize('scan, draft', [(True, False), (False, True)])
def test_a_decode_step_of_latent_attention_copies_no_cache(scan, draft):
  """Each of its caches is read once, for keys and values."""
  plan = make_plan(
    'v5e:1x1',
    init='deepseek-ai/DeepSeek-R1',
    parallel__strategy='pmap',
    parallel__tensor_parallel=1,
    micro_batch_size=1,
    grpo__prompts_per_step=1,
    compute__scan_decode=scan,
    compute__keep_mtp=draft,
    sample__draft=draft,
  )
  few = dict(experts=8, groups=1, top_groups=1, ffn=128, shared_ffn=128)
  cfg = dataclasses.replace(
    plan.cfg,
    vocab_size=1024,
    real_vocab=1024,
    width=512,
    layers=12 if scan else 3,
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


def test_a_donated_cache_is_in_place():
  m = preflight_programs.decode().lower().compile().memory_analysis()
  assert m.alias_size_in_bytes == m.output_size_in_bytes == 8 * 8192 * 512 * 2
