"""The configs for pods, and what the compiler of TPUs makes of their programs."""

import dataclasses
import pathlib

import pytest

from r1jax import config
from r1jax.models import transformer
from r1jax.preflight import arithmetic, chips, plan, report, shapes
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
  c = load(path)
  long = path.stem.endswith('long')
  for name in ('v5p:8x8x8',) if long else ('v5e:16x16', 'v5p:4x8x8'):
    pod = chips.pod(name, 1)
    cfg = shapes.computed(c.init, c.compute, pod.chip)
    costs = arithmetic.costs(plan.make(c, cfg, pod))
    assert all(cost.fits(pod.chip) for cost in costs), name


def small(slices=1, length=1024):
  """The Plan of a small model on slices of sixteen chips, four to a row."""
  c = load(FOLDER / 'qwen2_5_7b.py')
  data = 4 * slices
  c = dataclasses.replace(
    c,
    micro_batch_size=data,
    parallel=dataclasses.replace(c.parallel, slices=slices),
    prompt=dataclasses.replace(c.prompt, max_len=length // 4),
    sample=dataclasses.replace(
      c.sample, max_new_tokens=length - length // 4, slots=16
    ),
    grpo=dataclasses.replace(c.grpo, prompts_per_step=4 * data, minibatches=1),
  )
  return plan.Plan(c, SMALL, chips.pod('v5e:4x4', slices))


def costs(run):
  found = programs.costs(run, arithmetic.costs(run), lambda line: None)
  return {cost.name: cost for cost in found}


@pytest.fixture(scope='module')
def one():
  return costs(small())


@pytest.mark.tpu
def test_a_token_moves_nothing_along_data(one):
  """Weights are gathered before the loop, not in it."""
  axes = {key.axes for key, _, _ in one['decode'].collectives}
  assert axes == {'model'}
  assert 'data' in {key.axes for key, _, _ in one['prefill'].collectives}


@pytest.mark.tpu
def test_a_token_reads_weights_and_cache_once_and_copies_neither(one):
  cfg, T = SMALL, 1024
  weights = (
    cfg.layers
    * (
      cfg.width * (cfg.heads + 2 * cfg.kv_heads) * cfg.head_dim
      + cfg.heads * cfg.head_dim * cfg.width
      + 3 * cfg.width * cfg.ffn
    )
    + cfg.vocab_size * cfg.width
  )
  cache = 2 * cfg.layers * 16 * cfg.kv_heads * T * cfg.head_dim
  least = 2 * (weights + cache) / 4
  # A little stays on the chip.
  assert 0.9 * least < one['decode'].hbm < 1.1 * least


@pytest.mark.tpu
def test_every_gradient_is_summed_over_the_chips_once(one):
  """Four weights a layer and the head's, in however many chunks it is computed;
  what is not cut over 'data' goes in one sum more."""
  sums = [
    (n, size)
    for key, n, size in one['train'].collectives
    if key.axes == 'data' and key.dtype == 'f32'
  ]
  assert sum(n for n, _ in sums) == 4 * SMALL.layers + 2


@pytest.mark.tpu
def test_between_slices_only_gradients_travel_once_an_update():
  run = small(slices=2)
  assert run.micro_batches > 1
  found = costs(run)
  for name in ('train', 'score', 'prefill', 'decode'):
    assert found[name].dcn == 0, name
  share = 4 * report.parameters(SMALL) / run.pod.slice_devices
  assert 0 < found['apply'].dcn < 1.5 * share


@pytest.mark.tpu
def test_longer_rows_take_the_memory_of_their_part_alone(one):
  """What lies between the layers is cut along its tokens over 'model'."""
  longer = costs(small(length=4096))
  whole = SMALL.layers * 3072 * SMALL.width * 2
  assert longer['train'].temp - one['train'].temp < whole / 2
