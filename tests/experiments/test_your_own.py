"""The examples of experiments/your_own run, and are as short as they say."""

import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy
import toy
import toy_model

from r1jax import config as configs
from r1jax import files
from r1jax.checkpoints import policy, pretrained
from r1jax.data import tasks, templates
from r1jax.data.templates import PromptConfig
from r1jax.distributed import device_placement
from r1jax.models.families import llama
from r1jax.rl import rl_config
from r1jax.sampling.generate import Sampler

HERE = 'experiments/your_own'
EXAMPLES = sorted(pathlib.Path(HERE).glob('*.py'))


@pytest.mark.parametrize('path', EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_shorter_than_fifteen_lines_of_code(path):
  lines = path.read_text().split('"""')[2].splitlines()
  assert 0 < sum(bool(line.strip()) for line in lines) < 15


def test_the_config_with_everything_of_ones_own_is_valid():
  config = configs.build(rl_config.Config, configs.load_file(f'{HERE}/zero.py'))
  rl_config.check(config)
  assert len(configs.code_names(config)) == 6


def run(base, workdir, *changes):
  return toy.run('rl', workdir, f'init={base}/model', 'steps=2', *changes)


def test_own_rewards_are_metrics(base, tmp_path):
  lines = run(
    base,
    tmp_path,
    f'rewards.{HERE}/rewards.py:short=0.1',
    f'rewards.{HERE}/rewards.py:mentions_gold=0.5',
  )
  assert all(0.4 < x['reward/short'] <= 1 for x in lines[1:])
  assert all(0 <= x['reward/mentions_gold'] <= 1 for x in lines[1:])


def test_an_own_objective_has_options_and_a_metric(base, tmp_path):
  lines = run(
    base,
    tmp_path,
    f'grpo.objective={HERE}/objective.py:soft_clip',
    'grpo.objective_options={"tau": 2.0}',
    f'grpo.advantage={HERE}/advantages.py:leave_one_out',
    f'grpo.loss_agg={HERE}/advantages.py:per_token',
    f'optim.optimizer={HERE}/optimizer.py:sgd',
    'optim.optimizer_options={"momentum": 0.5}',
  )
  # The ratio is 1 at the only update of each rollout.
  np.testing.assert_allclose(
    [x['objective/gate'] for x in lines[1:]], 0.5, atol=1e-4
  )
  assert all(x['grad_norm'] > 0 and 'clip_fraction' not in x for x in lines[1:])


def test_own_records_and_an_own_template(base, tmp_path):
  run(
    base,
    tmp_path,
    f'prompts={HERE}/data.py:sums?count=40&digits=4',
    f'prompt.template={HERE}/template.py:question',
  )
  samples = files.read_jsonl(tmp_path / 'samples.jsonl')
  assert {len(x['prompt']) for x in samples} == {4}
  assert all(x['id'].startswith('sums/0/') for x in samples)


def test_own_records_are_a_function_of_the_seed():
  source = f'{HERE}/data.py:sums?count=5'
  records = tasks.load_records(source, 3)
  assert records == tasks.load_records(source, 3)
  assert records != tasks.load_records(source, 4)
  assert all(
    int(x['answer']) == sum(map(int, x['prompt'])) % 10 for x in records
  )


class ChatTokenizer:
  prefix = '<s>'

  def chat(self, messages):
    return '|'.join(f'{x["role"]}:{x["content"]}' for x in messages)


def test_an_own_template_is_a_text_or_messages():
  record = dict(id='r', prompt='2+2')
  texts = []
  for name in ('question', 'chat'):
    prompt = PromptConfig(template=f'{HERE}/template.py:{name}')
    texts.append(templates.prompt_text(ChatTokenizer(), record, prompt))
  system = 'system:Think first, then answer.'
  assert texts == ['<s>2+2=', f'{system}|user:2+2']


def test_an_own_tool_is_described_in_the_prompt_and_ends_a_call(base):
  config = toy.built(
    'rl', f'prompt.tool={HERE}/tool.py:add', 'prompt.template={tool} {question}'
  )
  params, cfg, tokenizer = policy.load(
    f'{base}/model', policy.ComputeConfig(), None, 0
  )
  record = dict(id='r', prompt='123')
  text = templates.prompt_text(tokenizer, record, config.prompt)
  assert text == '<add>numbers</add> is their sum, e.g. <add>1 2 3</add> 123'
  placement = device_placement.placement(
    device_placement.ParallelConfig(), jax.devices()[:1]
  )
  sampler = Sampler(
    placement, cfg, tokenizer, config.prompt, config.sample, prompt_width=64
  )
  end = tuple(tokenizer.encode('</add>'))
  assert end in sampler.sample_config.stop_token_sequences


def test_an_own_family_is_read_as_a_llama(tmp_path):
  cfg = llama.Config(
    vocab_size=30, width=24, layers=2, heads=6, kv_heads=2, head_dim=4, ffn=28
  )
  params = toy_model.random_params(cfg)
  pretrained.save(tmp_path / 'phi', params, cfg)
  path = tmp_path / 'phi/model.safetensors'
  tensors = safetensors.numpy.load_file(path)
  for layer in range(2):
    for fused, names in (
      ('self_attn.{}_proj', 'q k v'),
      ('mlp.{}_proj', 'gate up'),
    ):
      form = f'model.layers.{layer}.{fused}.weight'
      parts = [tensors.pop(form.format(name)) for name in names.split()]
      new = 'qkv' if len(parts) == 3 else 'gate_up'
      tensors[form.format(new)] = np.concatenate(parts)
  safetensors.numpy.save_file(tensors, path)
  path = tmp_path / 'phi/config.json'
  config = json.loads(path.read_text())
  config['architectures'] = ['Phi3ForCausalLM']
  path.write_text(json.dumps(config))
  families = dict(Phi3ForCausalLM=f'{HERE}/family.py:phi4')
  read, read_cfg, _ = pretrained.load(tmp_path / 'phi', families)
  assert read_cfg == cfg
  jax.tree.map(np.testing.assert_array_equal, read, params)
