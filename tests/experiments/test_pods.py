"""The configs for pods, and their programs compiled for TPUs."""

import dataclasses
import pathlib

import pytest

from r1jax import config
from r1jax.models import transformer
from r1jax.preflight import arithmetic, chips, shapes
from r1jax.preflight import plan as plans
from r1jax.preflight.compiler import programs
from r1jax.rl import rl_config

FOLDER = pathlib.Path(__file__).parents[2] / 'experiments/pods'
FILES = sorted(FOLDER.glob('[lq]*_*b*.py'))
SMALL = transformer.ModelConfig(
  vocab_size=4096,
  width=512,
  layers=6,
  heads=8,
  kv_heads=4,
  head_dim=128,
  ffn=1024,
  tie_embeddings=False,
  qkv_bias=True,
  dtype='bfloat16',
  remat='full',
  attention='splash',
  head_chunk=128,
)


def load(path):
  return config.build(rl_config.Config, config.load_file(path))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_the_configs_fit_their_pods_by_formula(path):
  built = load(path)
  is_long = path.stem.endswith('long')
  for name in ('v5p:8x8x8',) if is_long else ('v5e:16x16', 'v5p:4x8x8'):
    pod = chips.pod(name)
    cfg = shapes.computed(built.init, built.compute, pod.chip)
    costs = arithmetic.costs(plans.make(built, cfg, pod))
    assert all(cost.fits(pod.chip) for cost in costs), name


def small_plan(slices=1, length=1024):
  """The Plan of a small model on slices of sixteen chips, four to a shard."""
  built = load(FOLDER / 'qwen2_5_7b.py')
  shards = 4 * slices
  built = dataclasses.replace(
    built,
    micro_batch_size=shards,
    parallel=dataclasses.replace(built.parallel, slices=slices),
    prompt=dataclasses.replace(built.prompt, max_len=length // 4),
    sample=dataclasses.replace(
      built.sample, max_new_tokens=length - length // 4, decode_slots=16
    ),
    grpo=dataclasses.replace(
      built.grpo, prompts_per_step=4 * shards, minibatches=1
    ),
  )
  pod = chips.pod('v5e:4x4', slices)
  return plans.Plan(config=built, cfg=SMALL, pod=pod)


def compiled_costs(plan):
  """The costs of a plan's programs by the compiler."""
  costs = programs.costs(plan, arithmetic.costs(plan))
  return {cost.name: cost for cost in costs}


@pytest.fixture(scope='module')
def one():
  return compiled_costs(small_plan())


@pytest.mark.tpu
def test_a_decode_step_sends_nothing_along_data(one):
  """Weights are gathered before the loop."""
  axes = {key.axes for key, _, _ in one['decode'].collectives}
  assert axes == {'model'}
  assert 'data' in {key.axes for key, _, _ in one['prefill'].collectives}


@pytest.mark.tpu
def test_a_decode_step_reads_weights_and_cache_once():
  """The cache is too large for the chip's own memory."""
  cfg, length = SMALL, 8192
  plan = small_plan(length=length)
  formula = [
    x for x in arithmetic.costs(plan) if x.name in ('prefill', 'decode')
  ]
  found = {x.name: x for x in programs.costs(plan, formula)}
  weights = (
    cfg.layers
    * (
      cfg.width * (cfg.heads + 2 * cfg.kv_heads) * cfg.head_dim
      + cfg.heads * cfg.head_dim * cfg.width
      + 3 * cfg.width * cfg.ffn
    )
    + cfg.vocab_size * cfg.width
  )
  cache = 2 * cfg.layers * 16 * cfg.kv_heads * length * cfg.head_dim
  expected = 2 * (weights + cache) / 4
  assert found['decode'].hbm == pytest.approx(expected, rel=0.1)


@pytest.mark.tpu
def test_every_gradient_is_summed_once(one):
  """One sum for each of a layer's four weights, one for the head, whatever the
  number of its chunks, and one for all that is not sharded along 'data'."""
  sums = [
    (n, size)
    for key, n, size in one['train'].collectives
    if key.axes == 'data' and key.dtype == 'f32'
  ]
  assert sum(n for n, _ in sums) == 4 * SMALL.layers + 2


@pytest.mark.tpu
def test_only_gradients_are_sent_between_slices_once_an_update():
  plan = small_plan(slices=2)
  assert plan.micro_batches > 1
  found = compiled_costs(plan)
  for name in ('train', 'score', 'prefill', 'decode'):
    assert found[name].dcn == 0, name
  share = 4 * shapes.num_parameters(SMALL) / plan.pod.slice_devices
  assert 0 < found['apply'].dcn < 1.5 * share


@pytest.mark.tpu
def test_activations_of_longer_rows_are_sharded(one):
  """Activations between the layers are sharded along their tokens."""
  longer = compiled_costs(small_plan(length=4096))
  whole = SMALL.layers * 3072 * SMALL.width * 2
  assert longer['train'].temp - one['train'].temp < whole / 2
