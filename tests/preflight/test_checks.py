"""The checks of preflight, and its command."""

import dataclasses
import json
import math

import numpy as np
import pytest
from toy_preflight import EXPERIMENT

from experiments import base
from r1jax import cli
from r1jax import config as configs
from r1jax.checkpoints import tokenization
from r1jax.data import templates
from r1jax.preflight import checks, ideal_response, trial
from r1jax.rl import rl_config


@pytest.fixture
def experiment(tmp_path):
  path = tmp_path / 'pod' / 'q7.py'
  path.parent.mkdir()
  path.write_text(EXPERIMENT)
  return path


def test_a_group_is_dead_if_all_samples_are_correct_or_all_are_not():
  assert trial.dead_share(np.array([0.5]), 2) == 0.5
  assert trial.dead_share(np.array([0.0, 1.0]), 16) == 1
  assert math.isclose(trial.dead_share(np.array([0.1]), 16), 0.9**16 + 0.1**16)


TOKENIZER = tokenization.ByteTokenizer()


def toy(**prompt):
  """(config, tokenizer, record, ids of its prompt)."""
  config = configs.build(rl_config.Config, base.get_config('rl'))
  changed = dataclasses.replace(config.prompt, template='plain', **prompt)
  config = dataclasses.replace(config, prompt=changed)
  record = dict(id='1', prompt='1+1?', answer='2')
  ids = TOKENIZER.encode('1+1?' + config.prompt.prefill)
  return config, TOKENIZER, record, ids


def with_sample(config, **changes):
  sample = dataclasses.replace(config.sample, **changes)
  return dataclasses.replace(config, sample=sample)


def test_an_ideal_response_ends_and_is_rewarded():
  assert ideal_response.problem(*toy()) == ''
  assert ideal_response.problem(*toy(prefill='<think>\n')) == ''
  assert ideal_response.problem(*toy(stop_strings=('</answer>',))) == ''


OPEN = '{question}\nassistant: <think>\n'
CLOSED = '{question}\nassistant: <think>\n\n</think>\n\n'


def opened(template, **prompt):
  """toy() with a template that has a think tag, and its prompt."""
  config, tokenizer, record, _ = toy(**prompt)
  changed = dataclasses.replace(config.prompt, template=template)
  config = dataclasses.replace(config, prompt=changed)
  made = templates.make_prompt(tokenizer, record, config.prompt)
  ids = tokenizer.encode(made.full_text)
  return (config, tokenizer, record, ids), made


@pytest.mark.parametrize('template', [OPEN, CLOSED])
@pytest.mark.parametrize('prefill', ['', '<think>\n'])
def test_a_template_may_open_or_close_the_thinking(template, prefill):
  if template == CLOSED and prefill:
    prefill = '<think>\n\n</think>\n\n'
  found, made = opened(template, prefill=prefill)
  assert ideal_response.problem(*found) == ''
  text = ideal_response.describe_opening(found[0], made)
  assert text.startswith('the prompt template')
  assert repr(made.opening) in text
  assert ('empty thinking' in text) == (template == CLOSED)
  assert ('prefill' in text) == bool(prefill)


def test_a_language_reward_of_empty_thinking_is_named():
  (config, *_), made = opened(CLOSED)
  assert ideal_response.thinking_problem(config, made, '1+1?') == ''
  config = dataclasses.replace(config, rewards=dict(language=1.0))
  problem = ideal_response.thinking_problem(config, made, '1+1?')
  assert 'language of its thinking is always 0' in problem


@pytest.mark.parametrize(
  'end, is_problem',
  [
    (' <think>\nOkay, ', True),
    (' <think>\n', False),
    ('\nUse <think> </think> and <answer> </answer>. A:', False),
    ('', False),
  ],
)
def test_a_think_tag_before_the_end_of_a_template_is_named(end, is_problem):
  (config, *_), made = opened('<think>{question}' + end)
  problem = ideal_response.thinking_problem(config, made, '1+1?')
  assert ('set config.prompt.prefill' in problem) == is_problem


def test_the_problem_of_an_ideal_response_is_named():
  problem = ideal_response.problem
  assert 'gets no format' in problem(*toy(prefill='Well: '))
  assert 'none of config.prompt.stop' in problem(*toy(stop_strings=('<end>',)))
  config, *rest = toy()
  short = with_sample(config, max_new_tokens=5)
  assert 'max_new_tokens is 5' in problem(short, *rest)
  unknown = with_sample(config, eos_ids=(10**6,))
  text = ideal_response.end_token_problem(unknown, TOKENIZER)
  assert 'never sampled' in text


def test_responses_are_judged_by_the_verifiers_of_the_run():
  config, tokenizer, record, ids = toy()
  calls = []

  def accuracy(records, texts):
    calls.append(texts)
    return np.zeros(len(texts), np.float32)

  problem = ideal_response.problem(
    config, tokenizer, record, ids, dict(accuracy=accuracy)
  )
  assert 'gets no accuracy' in problem and calls
  own = record | dict(scorer='own.py:f', answer=[1])
  assert checks._has_gold_text(record) and not checks._has_gold_text(own)


def test_the_command_reports_whether_a_run_fits(experiment, tmp_path, capsys):
  path = tmp_path / 'report.json'
  command = ['preflight', '--config', str(experiment), '--formula']
  command += ['--topology', 'v5e:16x16', '--pass-rate', '0.1']
  assert cli.main([*command, '--json', str(path)]) == 0
  out = capsys.readouterr().out
  assert (
    'It fits' in out
    and '19% of groups of 16 samples, at a mean pass rate of 0.1' in out
  )
  found = json.loads(path.read_text())
  assert found['fits'] and found['devices'] == 256
  names = [x['name'] for x in found['programs']]
  assert names == ['train', 'score', 'gather', 'prefill', 'decode', 'evaluate']
  assert found['host']['load'] < found['host']['memory']


def test_the_command_names_changes_that_make_the_run_fit(experiment, capsys):
  command = ['preflight', '--config', str(experiment), '--formula']
  command += ['--topology', 'v5e:2x4', '--config.micro_batch_size=2']
  command += [
    '--config.grpo.prompts_per_step=2',
    '--config.sample.decode_slots=8',
  ]
  assert cli.main(command) == 1
  out = capsys.readouterr().out
  assert 'It does not fit' in out and '--topology v5e:' in out


def test_unknown_keys_and_uneven_rows_are_named(experiment, capsys):
  command = ['preflight', '--config', str(experiment), '--formula']
  command += ['--topology', 'v5e:16x16']
  assert cli.main([*command, '--config.micro_batch_sise=3']) == 2
  assert 'did you mean config.micro_batch_size' in capsys.readouterr().err
  assert cli.main([*command, '--config.micro_batch_size=32']) == 1
  assert 'BAD keys: 64 devices share the rows' in capsys.readouterr().out


@pytest.mark.parametrize(
  'argument, sentence',
  [
    ('--length=-5', '--length is -5: it must be from 1 to the 3,072 tokens'),
    ('--length=0', '--length is 0'),
    ('--length=4000', '--length is 4000'),
    ('--slices=-2', 'slices is -2; it must be at least 1'),
    ('--slices=0', 'slices is 0; it must be at least 1'),
    ('--pass-rate=1.5', '--pass-rate is 1.5: it must be from 0 to 1'),
    ('--pass-rate=nan', '--pass-rate is nan'),
    ('--expert-imbalance=0.5', '--expert-imbalance is 0.5: it must be'),
    ('--expert-imbalance=nan', '--expert-imbalance is nan'),
    ('--json=gs://x/y', '--json is gs://x/y, but'),
    ('--json=nowhere/report.json', 'there is no folder nowhere'),
    ('--json=/', '--json / is a folder: name a file in it'),
  ],
)
def test_a_number_that_no_run_has_is_refused(
  experiment, argument, sentence, capsys
):
  command = ['preflight', '--config', str(experiment), '--formula']
  command += ['--topology', 'v5e:16x16', argument]
  assert cli.main(command) == 2
  assert sentence in capsys.readouterr().err


def test_a_small_local_model_is_sampled(base, tmp_path, capsys):
  path = tmp_path / 'x' / 'toy.py'
  path.parent.mkdir()
  path.write_text("""
from experiments import base

def get_config():
  config = base.get_config('rl')
  config.prompts = 'toy:running_sum?count=64&digits=3'
  config.eval.held_out = 4
  config.prompt.template = 'plain'
  config.prompt.max_len = 8
  config.sample.max_new_tokens = 32
  config.grpo.prompts_per_step = 4
  config.grpo.group_size = 4
  return config
""")
  command = ['preflight', '--config', str(path), '--topology', 'cpu:4']
  assert cli.main([*command, f'--config.init={base / "model"}']) == 0
  out = capsys.readouterr().out
  assert 'ok  sampler and trainer' in out
  assert 'dead groups:' in out and 'ok  end token' in out
