"""The configs for pods, and their programs compiled for TPUs."""

import dataclasses
import json
import pathlib
import re

import pytest

from experiments.pods import rehearse
from r1jax import cli, config
from r1jax.models.families import llama
from r1jax.preflight import arithmetic, checks, chips, shapes
from r1jax.preflight import plan as plans
from r1jax.preflight.compiler import programs
from r1jax.rl import rl_config

FOLDER = pathlib.Path(__file__).parents[2] / 'experiments/pods'
PODS = {name: ('v5e:16x16', 'v5p:4x8x8') for name in rehearse.MODELS} | dict(
  qwen2_5_32b_long=('v5p:8x8x8',),
  deepseek_r1=('v5p:8x8x8',),
  qwen3_30b_a3b=('v6e:8x8', 'v6e:16x16'),
  gemma_3_1b=('v5e:2x4', 'v6e:1x1'),
  qwen2_5_1_5b_small=('v5e:2x4',),
)
SMALL = llama.Config(
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


@pytest.mark.parametrize('name', PODS)
def test_the_configs_fit_their_pods_by_formula(name):
  built = load(FOLDER / f'{name}.py')
  for topology in PODS[name]:
    pod = chips.pod(topology)
    cfg = shapes.computed(built.init, built.compute, pod.chip)
    costs = arithmetic.costs(plans.make(built, cfg, pod))
    assert all(cost.fits(pod.chip) for cost in costs), topology


def small_plan(slices=1, length=1024):
  """The Plan of a small model on slices of sixteen chips, four to a shard."""
  built = load(FOLDER / 'qwen2_5_7b.py')
  shards = 4 * slices
  built = dataclasses.replace(
    built,
    micro_batch_size=shards,
    eval=dataclasses.replace(built.eval, every=0),
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
  assert 'data' in {key.axes for key, _, _ in one['gather'].collectives}


@pytest.mark.tpu
def test_a_decode_step_reads_weights_and_filled_cache_once():
  """The cache is too large for the chip's own memory. Of its rows a kernel
  reads the share that is filled on average."""
  cfg, length = SMALL, 8192
  plan = small_plan(length=length)
  names = 'gather', 'prefill', 'decode'
  formula = [x for x in arithmetic.costs(plan) if x.name in names]
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
  expected = 2 * (weights + cache * plan.cache_share) / 4
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
  for name in ('train', 'score', 'gather', 'prefill', 'decode'):
    assert found[name].dcn == 0, name
  share = 4 * shapes.num_parameters(SMALL) / plan.pod.slice_devices
  assert 0 < found['apply'].dcn < 1.5 * share


@pytest.mark.tpu
def test_activations_between_the_layers_are_sharded_along_their_tokens():
  plan = small_plan(length=4096)
  traced = programs.trace_train(plan, programs.placement_of(plan))
  program = traced.lower().compile().as_text()
  layers, tokens, width = SMALL.layers, 4096 // 4, SMALL.width
  assert f'bf16[{layers},1,{tokens},{width}]' in program
  assert f'bf16[{layers},1,4096,{width}]' not in program


def readme_configs():
  """The configs of the rl and preflight commands in README and docs/."""
  root = FOLDER.parents[1]
  paths = root / 'README.md', *sorted((root / 'docs').glob('*.md'))
  text = '\n'.join(path.read_text() for path in paths)
  commands = re.findall(r'(?:r1jax|--) (?:rl|preflight) --config (\S+)', text)
  return sorted(set(commands))


def rl_configs():
  found = []
  for path in sorted(FOLDER.parent.rglob('*.py')):
    if 'def get_config' in path.read_text():
      settings = config.load_file(path)
      if 'grpo' in settings and path.name not in ('base.py', 'rows_4k.py'):
        found.append(path)
  return found


def test_every_key_of_a_shipped_rl_config_has_an_effect():
  """So preflight does not end with 1 because of them."""
  assert len(rl_configs()) > 15
  for path in rl_configs():
    built = load(path)
    samples = built.grpo.prompts_per_step * built.grpo.group_size
    check = checks._check_effects(built, samples)
    assert check.good, f'{path}: {check.text}'


def test_the_recipe_of_readme_passes_its_preflight(tmp_path, capsys):
  assert 'experiments/zero_gsm8k.py' in readme_configs()
  pod = '--topology=v5e:2x2', '--formula'
  for name in readme_configs():
    path = FOLDER.parents[1] / name
    arguments = ['preflight', '--config', str(path)]
    if path.parent == FOLDER:
      arguments += ['--topology=v5e:16x16', '--formula']
    elif name.endswith('zero_gsm8k.py'):
      arguments += pod
      arguments += [f'--config.init={qwen_half_b(tmp_path)}']
      arguments += ['--config.prompts=gsm8k_train.jsonl']
      arguments += ['--config.eval.data=gsm8k_test.jsonl']
    else:
      continue  # These need a model that other commands make.
    assert cli.main(arguments) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
  'name, pod',
  [
    ('colab_t4', 't4:1'),
    ('colab_v5e', 'v5e:1x1'),
    ('kaggle_v5e', 'v5e:2x4'),
    ('gpu_24gb', 'l4:1'),
    ('gpu_24gb', 'rtx3090:1'),
    ('gpu_24gb', 'rtx4090:1'),
    ('gpu_80gb', 'a100-80g:1'),
    ('gpu_80gb', 'h100:1'),
  ],
)
def test_the_configs_for_small_hardware_fit_it(name, pod, capsys):
  path = FOLDER.parent / 'hardware' / f'{name}.py'
  arguments = 'preflight', '--config', str(path), '--topology', pod, '--formula'
  assert cli.main(arguments) == 0, capsys.readouterr().out
  assert 'It fits' in capsys.readouterr().out


def test_preflight_takes_a_config_json_without_a_model(tmp_path, capsys):
  path = qwen_half_b(tmp_path) / 'config.json'
  config = str(FOLDER.parent / 'hardware/gpu_24gb.py')
  start = 'preflight', '--config', config, '--topology', 'l4:1', '--formula'
  moved = path.rename(tmp_path / 'qwen.json')
  assert cli.main([*start, '--model', str(moved)]) == 0
  assert '0.49 B parameters' in capsys.readouterr().out
  for text in (tmp_path / 'absent.json', tmp_path):
    assert cli.main([*start, '--model', str(text)]) == 2
    assert 'name a config.json of a model' in capsys.readouterr().err


def qwen_half_b(folder):
  """A directory with the shapes of Qwen2.5-0.5B, without its weights."""
  values = dict(
    architectures=['Qwen2ForCausalLM'],
    vocab_size=151_936,
    hidden_size=896,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    intermediate_size=4_864,
    tie_word_embeddings=True,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    max_position_embeddings=32_768,
  )
  (folder / 'config.json').write_text(json.dumps(values))
  return folder
