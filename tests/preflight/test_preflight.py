"""Preflight without a compiler: bytes, FLOPs, knobs and the report."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
from toy_preflight import SMALL, costs_by_name, make_plan, traced_flops

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.distributed import device_placement
from r1jax.models import moe
from r1jax.models.families import gemma, llama, qwen3_moe
from r1jax.preflight import (
  arithmetic,
  checks,
  chips,
  cost,
  host_memory,
  knobs,
  layers,
  report,
  shapes,
)
from r1jax.preflight.compiler import flops, programs, versions
from r1jax.stages import preflight

GIB = chips.GIB


def test_a_topology_determines_devices_and_hosts():
  assert (chips.pod('v5e:16x16', 2).devices, chips.pod('v5e:16x16').hosts) == (
    512,
    64,
  )
  assert chips.pod('v5p:8x8x8').devices == 512
  assert chips.pod('tpu7x:2x2x1').devices == 8  # a chip is two devices
  assert chips.pod('h100:8').hosts == 1


@pytest.mark.parametrize(
  'topology', ['v5e', 'v9:2x2', 'v5e:2xa', 'h100:0', 'h100:2x2', 'cpu:-1']
)
def test_an_invalid_topology_is_refused(topology):
  with pytest.raises(errors.UserError, match='--topology'):
    chips.pod(topology)


@pytest.mark.parametrize(
  'topology, offered',
  [
    ('v5e:2x2x2', '1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16'),
    ('v5e:0x2', '1x1, 2x2'),
    ('v6e:1x2', '1x1, 2x2'),
    ('v6e:4x2', '1x1, 2x2'),
    ('v6e:16x32', '8x16, 16x16'),
    ('v5p:4x4', '2x2x1, 2x2x2, 2x2x4, 2x4x4 and AxBxC of multiples of 4'),
    ('v5p:1x1x1', 'from 4x4x4 to 16x16x24'),
    ('v5p:8x4x4', 'with A <= B <= C'),
    ('v4:4x4x6', 'from 4x4x4 to 16x16x16'),
  ],
)
def test_a_slice_that_is_not_offered_is_refused_with_those_that_are(
  topology, offered
):
  with pytest.raises(errors.UserError) as found:
    chips.pod(topology)
  assert offered in str(found.value) and topology in str(found.value)


def test_every_slice_that_is_offered_is_accepted():
  for chip in chips.CHIPS.values():
    for shape in chips.offered(chip) if chip.is_tpu else ('1', '8', '24'):
      assert chips.pod(f'{chip.name}:{shape}').hosts >= 1
  assert [chips.pod(f'{name}:1x1').devices for name in ('v5e', 'v6e')] == [1, 1]
  assert {'4x4x12', '8x8x8', '16x16x24'} <= set(
    chips.offered(chips.CHIPS['v5p'])
  )


def test_advice_names_slices_that_are_offered():
  for chip in chips.CHIPS.values():
    for shape in chips.offered(chip) if chip.is_tpu else ('1', '8'):
      pod = chips.pod(f'{chip.name}:{shape}')
      for k, larger in enumerate(chips.larger(pod)):
        other = chips.pod(f'{chip.name}:{larger}')
        assert other.devices / pod.devices in (2, 4), (k, shape, larger)
  assert chips.larger(chips.pod('v5e:8x16')) == ['16x16']
  assert chips.larger(chips.pod('v5e:1x1')) == ['2x2']
  assert chips.larger(chips.pod('v5p:2x2x1')) == ['2x2x2', '2x2x4']
  assert chips.larger(chips.pod('v5p:4x8x8')) == ['8x8x8', '8x8x16']


@pytest.mark.parametrize(
  'init, billions',
  [
    ('Qwen/Qwen2.5-0.5B', 0.494),
    ('Qwen/Qwen2.5-0.5B-Instruct', 0.494),
    ('Qwen/Qwen2.5-1.5B', 1.544),
    ('Qwen/Qwen2.5-3B', 3.086),
    ('Qwen/Qwen2.5-7B', 7.616),
    ('Qwen/Qwen2.5-14B', 14.770),
    ('Qwen/Qwen2.5-32B', 32.764),
    ('Qwen/Qwen3-0.6B-Base', 0.596),
    ('Qwen/Qwen3-1.7B', 1.721),
    ('Qwen/Qwen3-4B', 4.022),
    ('Qwen/Qwen3-8B', 8.191),
    ('meta-llama/Llama-3.1-8B', 8.030),
    ('meta-llama/Llama-3.2-1B-Instruct', 1.236),
    ('meta-llama/Llama-3.2-3B', 3.213),
    ('HuggingFaceTB/SmolLM2-135M-Instruct', 0.135),
    ('HuggingFaceTB/SmolLM2-360M', 0.362),
    ('HuggingFaceTB/SmolLM2-1.7B', 1.711),
  ],
)
def test_published_shapes_have_the_published_number_of_parameters(
  init, billions
):
  cfg = shapes.computed(init, policy.ComputeConfig(), chips.CHIPS['v5e'])
  assert round(shapes.num_parameters(cfg) / 1e9, 3) == billions
  assert (cfg.attention, cfg.cpu_layout) == ('splash', False)


@pytest.mark.parametrize(
  'init, parameters',
  [
    ('google/gemma-2-2b-it', 2_614_341_888),
    ('google/gemma-3-1b-pt', 999_885_952),
    # 4,300,079,472 less 416,866,032 of SigLIP and 2,950,272 of the projector.
    ('google/gemma-3-4b-it', 3_880_263_168),
    ('mistralai/Mistral-7B-v0.1', 7_241_732_096),
    ('mistralai/Mistral-7B-v0.3', 7_248_023_552),
    ('microsoft/Phi-4-mini-instruct', 3_836_021_760),
    ('HuggingFaceTB/SmolLM3-3B', 3_075_098_624),
    ('allenai/OLMo-2-0425-1B', 1_484_916_736),
  ],
)
def test_other_families_have_exactly_the_published_parameters(init, parameters):
  assert shapes.num_parameters(shapes.model_config(init)) == parameters


def test_config_init_is_a_local_model_or_a_published_name(base):
  local = shapes.model_config(str(base / 'model'))
  assert local.vocab_size < 1000
  with pytest.raises(errors.UserError, match='no local model'):
    shapes.model_config('someone/else')
  with pytest.raises(errors.UserError, match='mean Qwen/Qwen3-0.6B'):
    shapes.model_config('Qwen3-0.6B-Base')


def test_the_state_is_sharded_within_a_slice_and_replicated_between_slices():
  changes = dict(
    grpo__kl_coef=0.0, grpo__prompts_per_step=4096, micro_batch_size=65536
  )
  one = costs_by_name(make_plan(**changes))
  two = costs_by_name(make_plan(**changes, parallel__slices=2))
  size = 7_615_616_512 * 4
  for found in one, two:
    got = found['train'].parts['parameters']
    # Biases and norms are not sharded along 'data'.
    assert got == pytest.approx(size / 256, rel=0.01)
  assert one['train'].dcn == 0 < two['train'].dcn
  assert 'apply' not in one and 'apply' not in two


def test_the_optimisers_state_is_counted_by_its_shapes():
  adamw, lion, factored = (
    layers.sizes_of(make_plan(**changes))
    for changes in (
      {},
      dict(optim__optimizer='optax:lion'),
      dict(optim__second_moment='factored'),
    )
  )
  size = adamw.parameters
  assert adamw.optimizer == pytest.approx(2 * size, abs=8)
  assert lion.optimizer == pytest.approx(size, abs=8)
  # The factors are on every device.
  assert size < factored.optimizer < 1.5 * size


def test_the_state_of_the_optimiser_has_no_copies_of_shared_key_heads():
  plan = make_plan(init='Qwen/Qwen2.5-1.5B', parallel__tensor_parallel=4)
  assert plan.shared_cfg.sharding.key_copies == 2
  sizes = layers.sizes_of(plan)
  assert sizes.optimizer == pytest.approx(2 * sizes.parameters, abs=8)


def test_gradients_are_sent_between_slices_once_an_update():
  plan = make_plan(grpo__prompts_per_step=512, parallel__slices=2)
  found = costs_by_name(plan)
  assert plan.calls()['train'] > plan.calls()['apply'] > 0
  assert found['train'].dcn == 0 < found['apply'].dcn


def test_a_decode_step_reads_weights_and_cache_once():
  """7B on 64 x 4 v5e, 16 rows of 4,096 tokens: 4.168 GiB a step."""
  plan = make_plan(compute__attention='einsum')
  found = costs_by_name(plan)['decode']
  assert found.hbm / GIB == pytest.approx(4.168, abs=2e-3)
  weights = found.parts['rollout weights']
  assert weights / GIB == pytest.approx(3.55, abs=0.01)
  assert found.parts['cache'] == 0.875 * GIB
  assert found.bound(chips.CHIPS['v5e'])[0] == 'HBM'


@pytest.mark.parametrize('scan', [True, False])
def test_the_decode_kernel_reads_what_rows_hold(scan):
  """Responses of the mean length fill the cache to their half on average."""
  plan = make_plan(compute__scan_decode=scan)
  prompt, longest = plan.config.prompt.max_len, plan.max_new_tokens
  assert plan.read_share == (prompt + longest / 2) / (prompt + longest)
  short = dataclasses.replace(plan, mean_response_len=100)
  assert short.read_share == (prompt + 50) / (prompt + longest)
  einsum = make_plan(compute__scan_decode=scan, compute__attention='einsum')
  assert einsum.read_share == 1
  whole = costs_by_name(einsum)['decode']
  for x in plan, short:
    found = costs_by_name(x)['decode']
    unread = (1 - x.read_share) * 0.875
    assert found.hbm / GIB == pytest.approx(whole.hbm / GIB - unread, abs=1e-3)
    assert found.flops < whole.flops
  lines = report.lines(short, arithmetic.costs(short), [])
  assert f'decode: reads {short.read_share:.0%} of the cache' in ' '.join(lines)


def test_flops_of_training_equal_those_of_a_traced_step():
  """54.03 TFLOP of products and 3.79 of the kernel, on each of 256 devices."""
  found = costs_by_name(make_plan())['train']
  assert found.flops / 1e12 == pytest.approx(54.03 + 3.79, rel=2e-3)


@pytest.mark.parametrize('remat', ['full', 'dots', 'none'])
def test_the_formulas_flops_equal_those_of_the_traced_programs(remat):
  """On four CPU devices."""
  plan = make_plan('cpu:4', compute__remat=remat, **SMALL)
  tiny = llama.Config(
    vocab_size=60,
    width=24,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=4,
    ffn=20,
    remat=remat,
    head_chunk=31,
  )
  plan = dataclasses.replace(plan, cfg=tiny)
  traced, formula = traced_flops(plan), costs_by_name(plan)
  assert traced == {name: formula[name].flops for name in traced}


def test_a_product_before_a_norm_is_computed_again():
  """Gemma's and OLMo's norm of what the MLP returns needs it."""
  plan = make_plan('cpu:4', compute__remat='full', **SMALL)
  tiny = gemma.Config(
    vocab_size=60,
    width=24,
    layers=3,
    heads=4,
    kv_heads=1,  # which two devices share
    head_dim=4,
    ffn=20,
    query_scalar=4,
    remat='full',
    head_chunk=31,
  )
  plan = dataclasses.replace(plan, cfg=tiny)
  traced, formula = traced_flops(plan), costs_by_name(plan)
  assert traced == {name: formula[name].flops for name in traced}


def test_an_update_of_a_model_with_experts_takes_their_routing():
  plan = make_plan('cpu:4', parallel__tensor_parallel=2, micro_batch_size=4)
  tiny = qwen3_moe.Config(
    vocab_size=60,
    width=24,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=4,
    dense_ffn=20,
    moe=moe.MoeConfig(
      experts=6, experts_per_token=2, ffn=8, score='softmax', normalize=True
    ),
  )
  plan = dataclasses.replace(plan, cfg=tiny)
  placement = device_placement.placement(plan.config.parallel)
  _, _, batch = programs.update_shapes(plan, placement)
  assert batch['routing'].shape == (4, plan.row_len, 3, 2)
  assert batch['routing'].dtype == np.uint8
  _, sums = programs.trace_train(plan, placement).out_info
  assert sums[moe.LOAD].shape == (3, 6)


def test_programs_of_pmap_are_traced_for_devices_that_are_not_here(monkeypatch):
  """Four CPU devices stand for those of a TPU."""
  plan = make_plan(
    'cpu:4',
    parallel__strategy='pmap',
    parallel__tensor_parallel=1,
    micro_batch_size=4,
    grpo__prompts_per_step=4,
    grpo__group_size=2,
    sample__max_new_tokens=24,
    prompt__max_len=8,
    sample__decode_slots=2,
    sample__refill_interval=5,
    compute__remat='none',
  )
  tiny = llama.Config(
    vocab_size=61,  # no number of devices divides it
    width=24,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=4,
    ffn=20,
    head_chunk=31,
  )
  plan = dataclasses.replace(plan, cfg=tiny)
  monkeypatch.setattr(programs, 'devices_of', lambda pod: jax.devices()[:4])
  placement, formula = programs.placement_of(plan), costs_by_name(plan)
  assert placement.num_shards == 4 == plan.num_shards
  score = flops.count(programs.trace_score(plan, placement).jaxpr)
  # The traced head omits the first column.
  head = 2 * tiny.vocab_size * tiny.width
  assert score.total / 4 == formula['score'].flops - head
  traced = programs.trace_train(plan, placement)
  train = flops.count(traced.jaxpr)
  assert train.total / 4 == formula['train'].flops - 4 * head
  assert 'psum' in str(traced.jaxpr)  # of the gradients over the devices


def test_pmap_and_one_chip_are_compiled(monkeypatch):
  monkeypatch.setattr(programs.importlib.util, 'find_spec', lambda name: True)
  plan = make_plan(
    'v6e:1x1', parallel__strategy='pmap', parallel__tensor_parallel=1
  )
  assert programs.cannot_compile(plan) == ''
  other = make_plan('h100:8')
  assert 'no compiler' in programs.cannot_compile(other)


def test_a_cache_on_tpus_has_whole_tiles():
  """Columns are padded to 128 if 64 channels would leave lanes empty."""
  small = make_plan(init='Qwen/Qwen2.5-0.5B', parallel__tensor_parallel=1)
  large = make_plan(parallel__tensor_parallel=1)
  assert (small.cfg.head_dim, large.cfg.head_dim) == (64, 128)
  for plan, columns in (small, 4096), (large, 4000):
    cfg, stored = plan.cfg, layers.cache_bytes(plan, 3, 4000)
    assert (
      stored == 2 * 2 * 3 * cfg.layers * cfg.kv_heads * columns * cfg.head_dim
    )
  gpu = make_plan(
    'h100:8',
    init='Qwen/Qwen2.5-0.5B',
    parallel__tensor_parallel=1,
    prompt__max_len=928,
  )
  cfg = gpu.cfg
  assert costs_by_name(gpu)['decode'].parts['cache'] == (
    2 * 2 * gpu.decode_slots * cfg.layers * cfg.kv_heads * 4000 * 64
  )


def test_pages_hold_more_rows_in_the_memory_of_their_tokens():
  """A row fills 2,048 columns on average; 15/16 of the pages have samples."""
  pages = dict(sample__cache_tokens=16 * 4096, sample__decode_slots=64)
  whole, paged = (
    dataclasses.replace(
      make_plan(grpo__group_size=64, **changes), mean_response_len=2048
    )
    for changes in ({}, pages)
  )
  assert paged.row_len == 4096 and paged.filled_columns == 2048
  assert whole.live_slots == 16
  held = 15 / 16 * 16 * 4096
  assert paged.live_slots == held / (2048 + (128 + 16) / 2)
  found = [costs_by_name(plan)['decode'] for plan in (whole, paged)]
  memory = [cost.parts['cache'] for cost in found]
  assert memory[1] == memory[0] * 513 / 512
  read = [plan.cache_share * size for plan, size in zip((whole, paged), memory)]
  assert read[1] / paged.live_slots == pytest.approx(read[0] / 16)
  steps = [plan.calls()['decode'] for plan in (whole, paged)]
  assert steps[0] / steps[1] == pytest.approx(paged.live_slots / 16, rel=0.01)


def test_the_report_states_versions_and_those_of_a_tpu(monkeypatch, tmp_path):
  for name, text in {
    'requirements-3.11.lock': 'jax==0.10.2\njaxlib==0.10.2\n',
    'requirements-tpu.lock': "libtpu==0.0.50.1; python_version > '3.11'\n"
    "libtpu==0.0.42.1; python_version == '3.11'\n",
  }.items():
    (tmp_path / name).write_text(text)
  monkeypatch.setattr(versions, 'ROOT', tmp_path)
  same = dict(jax='0.10.2', libtpu='0.0.42.1')
  assert versions.of_setup() == same
  monkeypatch.setattr(versions, 'here', lambda: same)
  assert versions.lines() == ['versions: jax 0.10.2, libtpu 0.0.42.1']
  newer = dict(jax='0.12.0.1', libtpu='0.0.50.1')
  monkeypatch.setattr(versions, 'here', lambda: newer)
  first, second = versions.lines()
  assert first == 'versions: jax 0.12.0.1, libtpu 0.0.50.1'
  assert 'setup installs jax 0.10.2 and libtpu 0.0.42.1' in second


def test_setup_and_rehearsals_install_the_libtpu_of_one_file():
  root = pathlib.Path(__file__).parents[2]
  for name in 'launch_tpu.sh', 'Makefile', 'docs/pods.md':
    text = (root / name).read_text()
    assert '-r requirements-tpu.lock' in text and 'jax[tpu]' not in text
  found = versions.of_setup()
  assert set(found) == {'jax', 'libtpu'}


def test_weights_that_the_mesh_does_not_divide_are_refused():
  plan = make_plan(
    'cpu:4',
    parallel__tensor_parallel=2,
    micro_batch_size=4,
    grpo__prompts_per_step=4,
  )
  odd = dataclasses.replace(plan.cfg, vocab_size=261)
  with pytest.raises(errors.UserError, match='has 261 ids in its vocabulary'):
    costs_by_name(dataclasses.replace(plan, cfg=odd))


def test_a_reference_is_resident_during_the_other_programs():
  with_it, without = (
    costs_by_name(make_plan()),
    costs_by_name(make_plan(grpo__kl_coef=0.0)),
  )
  apart = with_it['decode'].resident - without['decode'].resident
  assert apart == with_it['score'].parts['parameters']
  assert 'score' not in without


def test_einsum_and_less_remat_need_more_memory():
  small = costs_by_name(make_plan())['train'].temp
  assert (
    costs_by_name(make_plan(compute__attention='einsum'))['train'].temp > small
  )
  dots = costs_by_name(make_plan(compute__remat='dots'))['train'].temp
  none = costs_by_name(make_plan(compute__remat='none'))['train'].temp
  assert none > dots > small


@pytest.mark.parametrize(
  'changes, message',
  [
    (
      dict(parallel__tensor_parallel=8),
      '28 attention heads .* 4 heads of keys and values .* 8 devices .* one of '
      '1, 2, 4, 28',
    ),
    (dict(parallel__tensor_parallel=3), 'must divide'),
    (dict(parallel__strategy='pmap'), 'be 1 under pmap'),
  ],
)
def test_an_impossible_mesh_is_refused(changes, message):
  with pytest.raises(errors.UserError, match=message):
    costs_by_name(make_plan(**changes))


def test_knobs_make_the_run_fit_by_formula():
  plan = make_plan(
    'v5e:4x4', parallel__tensor_parallel=1, sample__decode_slots=64
  )
  costs = arithmetic.costs(plan)
  capacity = plan.pod.chip.hbm_capacity
  assert max(x.need for x in costs) > capacity
  found = knobs.find(plan, costs)
  assert found and all(need <= capacity for _, need in found)
  texts = ' '.join(text for text, _ in found)
  assert '--config.parallel.tensor_parallel=4' in texts
  lines = '\n'.join(report.verdict(plan, costs, found))
  assert 'does not fit' in lines and found[0][0].split()[0] in lines


def test_a_knob_changes_the_config_and_the_computation():
  plan = make_plan('v5e:4x4', compute__remat='none')
  knob = {'compute.remat': 'full', 'keep': 3}
  changed = knobs.with_knobs(plan, [knob])
  assert changed.config.compute.remat == changed.cfg.remat == 'full'
  assert changed.config.keep == 3 and changed.pod == plan.pod
  assert knobs.arguments(knob) == '--config.compute.remat=full --config.keep=3'


def test_knobs_must_save_what_the_compiler_needs_beyond_the_formulas():
  plan = make_plan()
  costs = arithmetic.costs(plan)
  more = [dataclasses.replace(x, temp=x.temp + 20 * GIB) for x in costs]
  assert knobs.find(plan, more) == []


def test_a_program_that_the_compiler_refuses_does_not_fit():
  text = (
    'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required '
    'for HLO temporaries (17.98G) exceeds available HBM (15.75G).\nmore'
  )
  plan = make_plan(grpo__group_size=256, sample__decode_slots=256)
  costs = arithmetic.costs(plan)
  names = [x.name for x in costs]
  costs = costs[: names.index('decode') + 1]
  costs[-1] = found = programs.refused(costs[-1], text)
  assert found.own == 17.98 * GIB and not found.fits(plan.pod.chip)
  lines = report.verdict(plan, costs, knobs.find(plan, costs))
  assert '(17.98G) exceeds' in ' '.join(lines)
  assert 'sample.decode_slots=' in lines[-1]


def test_the_roofline_time_is_that_of_the_slowest_resource():
  chip = chips.CHIPS['v5e']
  x = cost.Cost('train', flops=197e12, hbm=8.19e11 / 2, ici=2e11, dcn=0)
  assert x.seconds(chip) == dict(compute=1, HBM=0.5, ICI=2, DCN=0)
  assert x.bound(chip) == ('ICI', 2)


def test_reports_have_at_most_a_hundred_columns():
  plan = make_plan(
    parallel__slices=2, grpo__prompts_per_step=128, micro_batch_size=128
  )
  costs = arithmetic.costs(plan)
  lines = report.lines(plan, costs, knobs.find(plan, costs))
  assert max(map(len, lines)) <= 100
  assert json.dumps(report.as_json(plan, costs, [], []))


def test_an_evaluation_needs_the_memory_of_one_chunk_whatever_its_records():
  plans = [
    dataclasses.replace(make_plan(), held_out_problems=count)
    for count in (100, 1319, 100_000)
  ]
  needs = {costs_by_name(plan)['evaluate'].need for plan in plans}
  assert len(needs) == 1
  assert [plan.chunks for plan in plans] == [2, 21, 1563]
  more = make_plan(eval__prompts_per_chunk=1024)
  assert costs_by_name(more)['evaluate'].need > needs.pop()
  assert 'evaluate' not in costs_by_name(make_plan(eval__every=0))


def test_an_evaluation_that_the_compiler_refuses_does_not_fit(monkeypatch):
  """It has the rollouts' programs with other numbers of rows."""
  plan = make_plan(eval__prompts_per_chunk=2048, eval__samples=3)
  asked = []

  def sampling_costs(plan, formula, placement):
    asked.append((plan.config.grpo.group_size, plan.config.sample.temperature))
    is_chunk = plan.config.grpo.group_size == 3
    reason = 'RESOURCE_EXHAUSTED' if is_chunk else ''
    decode = dataclasses.replace(formula['decode'], refused=reason, flops=5.0)
    prefill = dataclasses.replace(formula['prefill'], flops=7.0)
    return [formula['gather'], prefill, decode]

  monkeypatch.setattr(programs, 'sampling_costs', sampling_costs)
  monkeypatch.setattr(programs, 'placement_of', lambda plan: None)
  monkeypatch.setattr(
    programs, '_compile', lambda plan, formula, traced: (formula, None)
  )
  for name in 'trace_train', 'trace_apply', 'trace_score':
    monkeypatch.setattr(programs, name, lambda plan, placement: None)
  found = {x.name: x for x in programs.costs(plan, arithmetic.costs(plan))}
  assert asked == [(16, 1.0), (3, plan.config.eval.temperature)]
  assert found['evaluate'].refused and not found['decode'].refused
  assert found['evaluate'].flops == 7 + plan.chunk.calls()['decode'] * 5
  assert plan.chunk.calls()['decode'] > 0


def test_the_whole_run_is_predicted_with_its_evaluations():
  plan = make_plan(steps=10, eval__every=5, eval__data='here.jsonl')
  plan = dataclasses.replace(plan, held_out_problems=1319)
  costs = arithmetic.costs(plan)
  text = ' '.join(' '.join(report.lines(plan, costs, [])).split())
  assert '21 chunks for 1,319 problems' in text
  assert 'for 10 rollouts and 3 evaluations' in text
  chip = plan.pod.chip
  seconds = {x.name: x.bound(chip)[1] for x in costs}
  rollout = sum(n * seconds[name] for name, n in plan.calls().items() if n)
  hours = (10 * rollout + 3 * 21 * seconds['evaluate']) / 3600
  assert f'predicted: {hours:,.1f} to' in text


def test_host_memory_is_that_of_the_smallest_machine_type():
  """GB: ct5lp-hightpu-1t and -4t, ct6e-standard-1t, ct5p-hightpu-4t."""
  names = 'v5e:1x1', 'v5e:16x16', 'v6e:1x1', 'v5p:4x4x4'
  got = [chips.pod(name).host_memory / 1e9 for name in names]
  assert got == [48, 192, 176, 448]


def test_host_memory_is_counted_for_loading_running_and_export():
  large = make_plan(init='Qwen/Qwen2.5-32B')
  needs = host_memory.needs(large)
  size = 4 * shapes.num_parameters(large.cfg)
  # A device's shard of the largest parameter, which has half of the 131 GB.
  assert 0.4 * size / 256 < needs['load'] - host_memory.PROCESS < size / 256
  assert needs['export'] < 0.2 * size
  # 4 of 256 chips are a host's.
  assert needs['run'] > 4 * size * 4 / 256
  small = make_plan(init='Qwen/Qwen2.5-7B')
  assert host_memory.needs(small)['load'] < needs['load']


def test_learning_one_step_late_needs_host_memory_for_two_rollouts():
  now = make_plan(grpo__old_logprobs='trainer')
  late = make_plan(grpo__old_logprobs='trainer', grpo__max_staleness=1)
  needs = [host_memory.needs(plan)['run'] for plan in (now, late)]
  rows = now.config.grpo.prompts_per_step * now.config.grpo.group_size
  # A token has 13 bytes as it is sampled, twice, and five columns of floats.
  assert needs[1] - needs[0] == rows * now.row_len * (2 * 13 + 5 * 4)
  # Rollouts and updates take turns on the same devices.
  assert costs_by_name(now)['train'].need == costs_by_name(late)['train'].need
  lines = report.lines(late, arithmetic.costs(late), [])
  assert any('one step after' in line for line in lines)
  # One update a rollout is off-policy, so the trainer scores it first.
  one = dict(grpo__minibatches=1, grpo__kl_coef=0.0)
  calls = [
    make_plan(grpo__max_staleness=late, **one).calls() for late in (0, 1)
  ]
  assert calls[0]['score'] == 0 < calls[1]['score']


def test_a_state_that_hosts_cannot_hold_is_bad():
  """A checkpoint is written from a copy of it: of the whole under pmap."""
  checked = {}
  for strategy in 'mesh', 'pmap':
    plan = make_plan(
      init='Qwen/Qwen2.5-32B',
      parallel__strategy=strategy,
      parallel__tensor_parallel=1,
    )
    names = {x.name: x for x in checks.run_checks(plan)}
    checked[strategy] = names['host memory']
  assert checked['mesh'].good
  assert checked['pmap'].line.startswith('BAD host memory: load')
  assert 'of 192 GB of a host' in checked['pmap'].text


def test_a_model_is_named_by_its_config_its_folder_or_its_run(tmp_path):
  config = tmp_path / 'model' / 'config.json'
  config.parent.mkdir()
  config.write_text('{}')
  (tmp_path / 'config.json').write_text('{"stage": "rl"}')  # of the run
  for path in (config, config.parent, tmp_path):
    assert preflight.model_file(str(path)) == str(config)
  with pytest.raises(errors.UserError, match='name a config.json of a model'):
    preflight.model_file(str(tmp_path / 'none'))
