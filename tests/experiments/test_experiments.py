"""Experiments have the keys of their stages, and those of experiments/r1 have
the values of the paper (R1, Methods, B.3 and B.4)."""

import ast
import importlib
import json
import pathlib

import jax
import pytest

from r1jax import cli
from r1jax import config as configs
from r1jax.distributed import device_placement
from r1jax.evaluation import tables
from r1jax.rl import rl_config
from r1jax.training import loop, optimizer

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = (
  ROOT / 'experiments',
  ROOT / 'experiments/r1',
  ROOT / 'experiments/hardware',
)
STAGES = [x for x in cli.STAGES.values() if 'stages' in x]
RECORDS = 804_745  # of Dev3 and of the students (Table 5)
DISTILLED = {
  'qwen_1_5b': 1e-4,
  'qwen_7b': 8e-5,
  'llama_8b': 5e-5,
  'qwen_14b': 7e-5,
  'qwen_32b': 6e-5,
  'llama_70b': 2e-5,
}


def experiments():
  paths = [path for folder in FOLDERS for path in sorted(folder.glob('*.py'))]
  return [path for path in paths if 'def get_config' in path.read_text()]


def load(path):
  """The Config of an experiment. Its keys determine the stage."""
  settings = configs.load_file(path)
  assert settings.is_locked
  # The stages rl and preflight share a Config.
  classes = {importlib.import_module(name).Config for name in STAGES}
  (cls,) = [x for x in classes if set(configs.defaults(x)) == set(settings)]
  return configs.build(cls, settings)


def r1(name):
  return load(ROOT / f'experiments/r1/{name}.py')


@pytest.mark.parametrize(
  'path', experiments(), ids=lambda path: f'{path.parent.name}/{path.stem}'
)
def test_every_experiment_has_the_keys_of_its_stage(path):
  config = load(path)
  if isinstance(config, rl_config.Config):
    one = device_placement.placement(
      device_placement.ParallelConfig(), jax.devices()[:1]
    )
    rl_config.check(config, one)
    in_bfloat16 = config.compute.dtype == 'bfloat16'
    assert config.grpo.tis_cap or not in_bfloat16


def test_zero_and_r1_have_the_values_of_the_paper():
  for name in ('zero', 'dev2', 'r1'):
    config = r1(name)
    grpo = config.grpo
    assert grpo.prompts_per_step * grpo.group_size == 8_192
    assert grpo.prompts_per_step // grpo.minibatches == 32
    assert grpo.group_size == 16
    assert (grpo.minibatches, grpo.epochs) == (16, 1)
    assert (grpo.clip_low, grpo.clip_high) == (10, 10)
    assert (grpo.kl_coef, grpo.kl_estimator) == (0.001, 'k3')
    assert grpo.ref_every == 400
    assert grpo.loss_agg == 'seq_mean_token_mean'
    assert grpo.advantage_std == 'population'
    assert config.optim.lr == 3e-6 and config.optim.schedule == 'constant'
    assert config.sample.max_new_tokens == 32_768
    assert set(config.rewards.values()) == {1.0}


def test_zero_has_10400_updates_and_a_longer_limit_from_8200():
  config = r1('zero')
  assert config.steps == 10_400
  assert config.max_new_tokens_schedule == ((8_200, 65_536),)
  assert config.rewards == dict(accuracy=1, format=1)
  assert (config.prompt.template, config.sample.temperature) == ('r1_zero', 1)
  assert r1('sample_zero').sample.temperature == 1
  student = r1('student_zero')
  assert (student.steps, student.optim.lr) == (10_000, 2e-6)
  assert not student.max_new_tokens_schedule


def test_reasoning_rl_adds_the_language_reward():
  config = r1('dev2')
  assert config.rewards == dict(accuracy=1, think_format=1, language=1)
  assert not config.max_new_tokens_schedule and config.sample.temperature == 1
  assert config.steps % config.grpo.ref_every == 0


def test_preference_rewards_apply_to_the_last_400_of_about_1700_updates():
  config = r1('r1')
  assert abs(config.steps - 1_700) < config.grpo.minibatches
  assert config.steps - config.domains_from == 400
  assert config.domains_from % config.grpo.minibatches == 0  # starts a rollout
  assert config.sample.temperature == 0.7
  assert config.rewards == dict(accuracy=1, think_format=1, language=1)
  assert config.by_domain == {
    f'general-{name}': {name: 1, 'think_format': 1, 'language': 1}
    for name in ('helpful', 'harmless')
  }
  assert set(config.reward_models) == {'helpful', 'harmless'}


def test_sft_has_two_to_three_epochs_of_128_rows_and_a_final_lr_of_5e_6():
  for name in ('dev1', 'dev3'):
    config = r1(name)
    assert config.init == r1('zero').init  # the base model
    assert (config.batch_size, config.max_len) == (128, 32_768)
    assert config.epochs in (2, 3)
    assert learning_rates(config) == pytest.approx([5e-5, 5e-6])
  assert loop.num_steps(r1('dev3'), RECORDS) == 12_574


@pytest.mark.parametrize('student, lr', DISTILLED.items())
def test_each_student_has_its_learning_rate_and_64_rows(student, lr):
  config = r1(f'distill_{student}')
  assert (config.batch_size, config.max_len) == (64, 32_768)
  assert config.epochs in (2, 3)
  assert config.data == r1('dev3').data
  assert learning_rates(config) == pytest.approx([lr, lr / 10])


def learning_rates(config):
  """The learning rates of the first step and after the last one."""
  steps = loop.num_steps(config, RECORDS)
  schedule = optimizer.learning_rate(config.optim, steps)
  return [float(schedule(0)), float(schedule(steps))]


def test_sampled_records_fit_the_sft_context_and_have_the_sizes_of_table_5():
  config, sft = r1('sample_dev2'), r1('dev3')
  assert config.prompt.max_len + config.sample.max_new_tokens <= sft.max_len
  assert config.prompt.template == sft.prompt.template
  assert config.prompt.prefill == sft.prompt.prefill
  code = 211_129
  assert sum(config.per_domain.values()) + code + config.mix_count == RECORDS
  assert config.min_rewards == dict(accuracy=1, think_format=1)


def test_reward_models_are_one_epoch_of_256_at_6e_6():
  for name, kind, part, size, steps in (
    ('helpful', 'pairwise', 'summary', 66_000, 257),
    ('harmless', 'pointwise', 'response', 106_000, 414),
  ):
    config = r1(name)
    assert (config.kind, config.part) == (kind, part)
    assert (config.batch_size, config.epochs, config.max_len) == (256, 1, 8_192)
    assert learning_rates(config) == pytest.approx([6e-6, 6e-6])
    assert loop.num_steps(config, size) == steps
    assert r1('r1').reward_models[name] == f'runs/r1/{name}/model'


def test_evaluation_has_64_and_16_samples_at_temperature_0_6():
  for name, samples, column in (
    ('evaluate', 64, 'AIME 2024'),
    ('evaluate_math', 16, 'MATH-500'),
  ):
    config = r1(name)
    s = config.sample
    assert config.samples == samples
    assert config.majority_k == 0  # of all samples
    assert (s.temperature, s.top_p, s.max_new_tokens) == (0.6, 0.95, 32_768)
    assert [tables.paper_name(name) for name in config.data] == [column]
    assert config.prompt.template.endswith('within \\boxed{}.\n\nAssistant:')


def test_on_policy_distillation_has_a_teacher_and_no_reward():
  config = r1('distill_on_policy')
  assert not any(config.rewards.values())
  assert config.teacher == 'runs/r1/r1/model'
  assert (config.grpo.kl_coef, config.grpo.kl_estimator) == (1, 'k3_unbiased')
  assert config.grpo.minibatches * config.grpo.epochs == 1  # on-policy
  assert config.grpo.prompts_per_step * config.grpo.group_size == 512


def test_stages_read_models_that_other_stages_write():
  folder = ROOT / 'experiments/r1'
  names = {path.stem for path in folder.glob('*.py')}
  for name in names - {'__init__'}:
    config = r1(name)
    read = [config.init, getattr(config, 'teacher', '')]
    read += getattr(config, 'reward_models', {}).values()
    for path in read:
      if path.startswith('runs/r1/'):
        assert path.split('/')[2] in names and path.endswith('/model')


@pytest.mark.parametrize(
  'path',
  [
    path
    for path in sorted((ROOT / 'experiments/notebooks').glob('*.ipynb'))
    if path.stem not in ('colab_gpu', 'kaggle_tpu')  # have commands
  ],
  ids=lambda x: x.stem,
)
def test_notebooks_refer_to_existing_names(path):
  cells = json.loads(path.read_text())['cells']
  code = [''.join(x['source']) for x in cells if x['cell_type'] == 'code']
  nodes = list(ast.walk(ast.parse('\n'.join(code))))
  modules = {}
  for node in nodes:
    if isinstance(node, ast.ImportFrom) and node.module.startswith('r1jax'):
      for alias in node.names:
        name = f'{node.module}.{alias.name}'
        modules[alias.name] = importlib.import_module(name)
    elif isinstance(node, ast.Import):
      for alias in node.names:
        if alias.name == 'r1jax':
          modules[alias.name] = importlib.import_module(alias.name)
  assert modules
  for node in nodes:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
      module = modules.get(node.value.id)
      assert module is None or hasattr(module, node.attr), ast.unparse(node)
