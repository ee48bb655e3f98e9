"""A rehearsal without a compiler: bytes, FLOPs, knobs and the report."""

import dataclasses
import json

import pytest
from toy_preflight import named, planned

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.distributed import device_placement
from r1jax.models import transformer
from r1jax.preflight import arithmetic, chips, cost, knobs, report, shapes
from r1jax.preflight.compiler import flops, programs

GIB = 2**30


def test_a_topology_says_how_many_devices_and_hosts():
  assert (chips.pod('v5e:16x16', 2).devices, chips.pod('v5e:16x16').hosts) == (
    512,
    64,
  )
  assert chips.pod('v5p:8x8x8').devices == 512
  assert chips.pod('tpu7x:2x2x1').devices == 8  # two of a chip
  assert chips.pod('h100:8').hosts == 1


@pytest.mark.parametrize(
  'topology', ['v5e', 'v9:2x2', 'v5e:2x2x2', 'v5p:4x4', 'v5e:0x2', 'v5e:2xa']
)
def test_a_topology_that_is_none_is_refused(topology):
  with pytest.raises(errors.UserError, match='--topology'):
    chips.pod(topology)


@pytest.mark.parametrize(
  'init, billions',
  [
    ('Qwen/Qwen2.5-1.5B', 1.54),
    ('Qwen/Qwen2.5-7B', 7.62),
    ('Qwen/Qwen2.5-32B', 32.76),
    ('meta-llama/Llama-3.1-8B', 8.03),
  ],
)
def test_published_shapes_have_the_published_number_of_parameters(
  init, billions
):
  cfg = shapes.computed(init, policy.ComputeConfig(), chips.CHIPS['v5e'])
  assert round(report.parameters(cfg) / 1e9, 2) == billions
  assert (cfg.attention, cfg.cpu_layout) == ('splash', False)


def test_a_local_model_goes_before_a_name_and_a_name_alone_is_refused(base):
  local = shapes.model_config(str(base / 'model'))
  assert local.vocab_size < 1000
  with pytest.raises(errors.UserError, match='no local model'):
    shapes.model_config('someone/else')


def test_state_is_cut_over_the_whole_slice_and_held_by_every_slice():
  one = named(
    planned(
      grpo__kl_coef=0.0, grpo__prompts_per_step=4096, micro_batch_size=65536
    )
  )
  two = named(
    planned(
      grpo__kl_coef=0.0,
      grpo__prompts_per_step=4096,
      micro=65536,
      parallel__slices=2,
    )
  )
  size = 7_615_616_512 * 4
  for found in one, two:
    got = dict(found['train'].parts)['parameters']
    # The biases and norms are not cut over 'data'.
    assert got == pytest.approx(size / 256, rel=0.01)
  assert one['train'].dcn == 0 < two['train'].dcn
  assert 'apply' not in one and 'apply' not in two


def test_what_micro_batches_add_up_to_goes_between_slices_once():
  run = planned(grpo__prompts_per_step=512, parallel__slices=2)
  found = named(run)
  assert run.calls()['train'] > run.calls()['apply'] > 0
  assert found['train'].dcn == 0 < found['apply'].dcn


def test_the_rollout_reads_weights_and_cache_once():
  """7B on 64 x 4 v5e, 16 rows of 4,096: 4.168 GiB a token."""
  found = named(planned())['decode']
  assert found.hbm / GIB == pytest.approx(4.168, abs=2e-3)
  weights = dict(found.parts)['rollout weights']
  assert weights / GIB == pytest.approx(3.55, abs=0.01)
  assert dict(found.parts)['cache'] == 0.875 * GIB
  assert found.bound(chips.CHIPS['v5e'])[0] == 'HBM'


def test_flops_of_training_are_those_that_a_traced_step_has():
  """54.03 TFLOP of products and 3.79 of the kernel, on each of 256."""
  found = named(planned())['train']
  assert found.flops / 1e12 == pytest.approx(54.03 + 3.79, rel=2e-3)


@pytest.mark.parametrize('remat', ['full', 'none'])
def test_the_formulas_flops_are_those_of_the_traced_programs(remat):
  """On four devices of this machine, in place of a pod's."""
  run = planned(
    'cpu:4',
    parallel__tensor_parallel=2,
    micro_batch_size=4,
    grpo__prompts_per_step=4,
    grpo__group_size=2,
    sample__max_new_tokens=24,
    prompt__max_len=8,
    sample__decode_slots=2,
    sample__refill_interval=5,
    compute__remat=remat,
    compute__head_chunk=31,
    grpo__minibatches=2,
  )
  tiny = transformer.ModelConfig(
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
  run = dataclasses.replace(run, cfg=tiny)
  place, formula = device_placement.placement(run.c.parallel), named(run)

  def count(trace):
    return flops.count(trace(run, place).jaxpr)

  # The head leaves out the first column.
  head = 2 * 2 * tiny.vocab_size / 2 * tiny.width
  train, score = count(programs.trace_train), count(programs.trace_score)
  assert train.total / 4 == formula['train'].flops - 4 * head
  assert score.total / 4 == formula['score'].flops - head
  sampled = count(programs.trace_sample)
  assert sampled.total / 4 == formula['prefill'].flops
  assert sampled.loops[0].total / 4 / 5 == formula['decode'].flops


def test_weights_that_the_devices_cannot_share_are_refused():
  run = planned(
    'cpu:4',
    parallel__tensor_parallel=2,
    micro_batch_size=4,
    grpo__prompts_per_step=4,
  )
  odd = dataclasses.replace(run.cfg, vocab_size=261)
  with pytest.raises(errors.UserError, match='embed has 261'):
    named(dataclasses.replace(run, cfg=odd))


def test_a_reference_lies_beside_what_it_does_not_take_part_in():
  with_it, without = named(planned()), named(planned(grpo__kl_coef=0.0))
  apart = with_it['decode'].resident - without['decode'].resident
  assert apart == dict(with_it['score'].parts)['parameters']
  assert 'score' not in without


def test_scores_of_einsum_and_kept_activations_grow():
  small = named(planned())['train'].temp
  assert named(planned(compute__attention='einsum'))['train'].temp > small
  dots = named(planned(compute__remat='dots'))['train'].temp
  none = named(planned(compute__remat='none'))['train'].temp
  assert none > dots > small


@pytest.mark.parametrize(
  'changes, words',
  [
    (dict(parallel__tensor_parallel=8), 'key heads'),
    (dict(parallel__tensor_parallel=3), 'must divide'),
    (dict(parallel__strategy='pmap'), 'be 1 under pmap'),
  ],
)
def test_a_mesh_that_cannot_be_is_refused(changes, words):
  with pytest.raises(errors.UserError, match=words):
    planned(**changes)


def test_knobs_are_those_with_which_the_arithmetic_fits():
  run = planned('v5e:4x4', parallel__tensor_parallel=1, sample__decode_slots=64)
  costs = arithmetic.costs(run)
  hbm = run.pod.chip.hbm
  assert max(x.need for x in costs) > hbm
  found = knobs.find(run, costs)
  assert found and all(need <= hbm for _, need in found)
  assert any(
    '--config.parallel.tensor_parallel=4' in words for words, _ in found
  )
  lines = '\n'.join(report.verdict(run, costs, found))
  assert 'does not fit' in lines and found[0][0].split()[0] in lines


def test_what_the_compiler_needs_more_the_knobs_must_save_more():
  run = planned()
  costs = arithmetic.costs(run)
  more = [dataclasses.replace(x, temp=x.temp + 20 * GIB) for x in costs]
  assert knobs.find(run, more) == []


def test_a_refusal_for_want_of_memory_is_an_answer():
  text = (
    'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required '
    'for HLO temporaries (17.98G) exceeds available HBM (15.75G).\nmore'
  )
  run = planned(grpo__group_size=256, sample__decode_slots=256)
  costs = arithmetic.costs(run)
  costs[-1] = found = programs.refused(costs[-1], text)
  assert found.own == 17.98 * GIB and not found.fits(run.pod.chip)
  lines = report.verdict(run, costs, knobs.find(run, costs))
  assert (
    '(17.98G) exceeds' in ' '.join(lines)
    and 'sample.decode_slots=' in lines[-1]
  )


def test_a_roofline_is_the_slowest_resource():
  chip = chips.CHIPS['v5e']
  x = cost.Cost('train', flops=197e12, hbm=8.19e11 / 2, ici=2e11, dcn=0)
  assert x.seconds(chip) == dict(compute=1, HBM=0.5, ICI=2, DCN=0)
  assert x.bound(chip) == ('ICI', 2)


def test_reports_keep_to_a_hundred_columns():
  run = planned(
    parallel__slices=2, grpo__prompts_per_step=128, micro_batch_size=128
  )
  costs = arithmetic.costs(run)
  lines = report.lines(run, costs, knobs.find(run, costs))
  assert max(map(len, lines)) <= 100
  assert json.dumps(report.as_json(run, costs, [], []))
