"""Every experiment is a config of its stage, and those of experiments/r1 have
the paper's figures (R1, Methods, B.3 and B.4)."""

import ast
import importlib
import json
import pathlib

import jax
import pytest

from r1jax import cli, config
from r1jax.distributed import device_placement
from r1jax.evaluation import tables
from r1jax.rl import rl_config
from r1jax.training import loop, optimizer

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = ROOT / 'experiments', ROOT / 'experiments/r1'
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
  """The built Config of an experiment, of the stage that has its keys."""
  settings = config.load_file(path)
  assert settings.is_locked
  (cls,) = {  # preflight has rl's
    cls
    for cls in (importlib.import_module(name).Config for name in STAGES)
    if set(config.defaults(cls)) == set(settings)
  }
  return config.build(cls, settings)


def r1(name):
  return load(ROOT / f'experiments/r1/{name}.py')


@pytest.mark.parametrize(
  'path', experiments(), ids=lambda path: f'{path.parent.name}/{path.stem}'
)
def test_every_experiment_is_a_config_of_its_stage(path):
  c = load(path)
  if isinstance(c, rl_config.Config):
    one = device_placement.placement(
      device_placement.ParallelConfig(), jax.devices()[:1]
    )
    rl_config.check(c, one)


def test_zero_and_r1_learn_by_the_papers_numbers():
  for name in ('zero', 'dev2', 'r1'):
    c = r1(name)
    g = c.grpo
    assert g.prompts_per_step * g.group_size == 8_192
    assert (g.prompts_per_step // g.minibatches, g.group_size) == (32, 16)
    assert g.prompts_per_step // g.minibatches * g.group_size == 512
    assert (g.minibatches, g.epochs) == (16, 1)
    assert (g.clip_low, g.clip_high, g.kl_coef, g.kl_estimator) == (
      10,
      10,
      0.001,
      'paper',
    )
    assert (g.ref_every, g.loss_agg, g.advantage_std) == (
      400,
      'response',
      'std',
    )
    assert c.optim.lr == 3e-6 and c.optim.schedule == 'constant'
    assert c.sample.max_new_tokens == 32_768
    assert set(c.rewards.values()) == {1.0}


def test_zero_runs_for_10400_updates_and_longer_from_8200():
  c = r1('zero')
  assert c.steps == 10_400 and c.max_new_tokens_schedule == ((8_200, 65_536),)
  assert c.rewards == dict(accuracy=1, format=1)
  assert (c.prompt.template, c.sample.temperature) == ('r1_zero', 1)
  assert r1('sample_zero').sample.temperature == 1
  student = r1('student_zero')
  assert (student.steps, student.optim.lr, student.longer) == (10_000, 2e-6, ())


def test_reasoning_rl_adds_the_language_to_the_rules():
  c = r1('dev2')
  assert c.rewards == dict(accuracy=1, think_format=1, language=1)
  assert not c.max_new_tokens_schedule and c.sample.temperature == 1
  assert c.steps % c.grpo.ref_every == 0


def test_preference_rewards_have_the_last_400_of_some_1700_updates():
  c = r1('r1')
  assert abs(c.steps - 1_700) < c.grpo.minibatches
  assert c.steps - c.domains_from == 400
  assert c.domains_from % c.grpo.minibatches == 0  # where a rollout begins
  assert c.sample.temperature == 0.7
  assert c.rewards == dict(accuracy=1, think_format=1, language=1)
  assert c.by_domain == {
    f'general-{name}': {name: 1, 'think_format': 1, 'language': 1}
    for name in ('helpful', 'harmless')
  }
  assert set(c.reward_models) == {'helpful', 'harmless'}


def test_sft_is_two_to_three_epochs_of_128_rows_down_to_5e_6():
  for name in ('dev1', 'dev3'):
    c = r1(name)
    assert c.init == r1('zero').init  # the base, both times
    assert (c.batch_size, c.max_len) == (128, 32_768) and c.epochs in (2, 3)
    assert rates(c) == pytest.approx([5e-5, 5e-6])
  assert loop.num_steps(r1('dev3'), RECORDS) == 12_574


@pytest.mark.parametrize('student, lr', DISTILLED.items())
def test_students_have_their_own_rates_and_64_rows(student, lr):
  c = r1(f'distill_{student}')
  assert (c.batch_size, c.max_len) == (64, 32_768) and c.epochs in (2, 3)
  assert c.data == r1('dev3').data
  assert rates(c) == pytest.approx([lr, lr / 10])


def rates(c):
  """The first learning rate and that after the last step."""
  steps = loop.num_steps(c, RECORDS)
  rate = optimizer.learning_rate(c.optim, steps)
  return [float(rate(0)), float(rate(steps))]


def test_sampled_records_fit_the_context_of_the_sft_and_have_table_5s_sizes():
  c, sft = r1('sample_dev2'), r1('dev3')
  assert c.prompt.max_len + c.sample.max_new_tokens <= sft.max_len
  assert (c.prompt.template, c.prompt.prefill) == (
    sft.prompt.template,
    sft.prompt.prefill,
  )
  code = 211_129
  assert sum(c.per_domain.values()) + code + c.mix_count == RECORDS
  assert c.min_rewards == dict(accuracy=1, think_format=1)


def test_reward_models_are_one_epoch_of_256_at_6e_6():
  for name, kind, part, size, steps in (
    ('helpful', 'pairwise', 'summary', 66_000, 257),
    ('harmless', 'pointwise', 'response', 106_000, 414),
  ):
    c = r1(name)
    assert (c.kind, c.part) == (kind, part)
    assert (c.batch_size, c.epochs, c.max_len) == (256, 1, 8_192)
    assert rates(c) == pytest.approx([6e-6, 6e-6])
    assert loop.num_steps(c, size) == steps
    assert r1('r1').reward_models[name] == f'runs/r1/{name}/model'


def test_evaluation_draws_64_and_16_samples_at_0_6():
  for name, samples, column in (
    ('evaluate', 64, 'AIME 2024'),
    ('evaluate_math', 16, 'MATH-500'),
  ):
    c = r1(name)
    s = c.sample
    assert (c.samples, c.majority_k) == (samples, 0)  # 0: the majority of all
    assert (s.temperature, s.top_p, s.max_new_tokens) == (0.6, 0.95, 32_768)
    assert [tables.known(name) for name in c.data] == [column]
    assert c.prompt.template.endswith('within \\boxed{}.\n\nAssistant:')


def test_distillation_on_policy_learns_from_the_teacher_alone():
  c = r1('distill_on_policy')
  assert not any(c.rewards.values())
  assert c.teacher == 'runs/r1/r1/model'
  assert (c.grpo.kl_coef, c.grpo.kl_estimator) == (1, 'reverse')
  assert c.grpo.minibatches * c.grpo.epochs == 1  # on-policy
  assert c.grpo.prompts_per_step * c.grpo.group_size == 512


def test_stages_read_what_those_before_them_write():
  folder = ROOT / 'experiments/r1'
  names = {path.stem for path in folder.glob('*.py')}
  for name in names - {'__init__'}:
    c = r1(name)
    read = [c.init, getattr(c, 'teacher', '')]
    read += getattr(c, 'reward_models', {}).values()
    for path in read:
      if path.startswith('runs/r1/'):
        assert path.split('/')[2] in names and path.endswith('/model')


@pytest.mark.parametrize(
  'path',
  sorted((ROOT / 'experiments/notebooks').glob('*.ipynb')),
  ids=lambda x: x.stem,
)
def test_notebooks_have_no_output_and_use_names_that_exist(path):
  cells = json.loads(path.read_text())['cells']
  assert not any(cell.get('outputs') for cell in cells)
  code = [''.join(x['source']) for x in cells if x['cell_type'] == 'code']
  nodes = list(ast.walk(ast.parse('\n'.join(code))))
  modules = {
    alias.name: importlib.import_module(f'{node.module}.{alias.name}')
    for node in nodes
    if isinstance(node, ast.ImportFrom) and node.module.startswith('r1jax')
    for alias in node.names
  }
  assert modules
  for node in nodes:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
      module = modules.get(node.value.id)
      assert module is None or hasattr(module, node.attr), ast.unparse(node)
