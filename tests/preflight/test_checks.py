"""What wastes the hours of a pod, and the command that says so."""

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
from r1jax.preflight import checks, respond
from r1jax.rl import rl_config


@pytest.fixture
def experiment(tmp_path):
  path = tmp_path / 'pod' / 'q7.py'
  path.parent.mkdir()
  path.write_text(EXPERIMENT)
  return path


def test_a_group_is_dead_when_all_are_right_or_all_wrong():
  assert checks.dead(np.array([0.5]), 2) == 0.5
  assert checks.dead(np.array([0.0, 1.0]), 16) == 1
  assert math.isclose(checks.dead(np.array([0.1]), 16), 0.9**16 + 0.1**16)


WORDS = tokenization.ByteTokenizer()


def toy(**prompt):
  c = configs.build(rl_config.Config, base.get_config('rl'))
  c = dataclasses.replace(
    c, prompt=dataclasses.replace(c.prompt, template='plain', **prompt)
  )
  record = dict(id='1', prompt='1+1?', answer='2')
  ids = WORDS.encode('1+1?' + c.prompt.prefill)
  return c, WORDS, record, ids


def test_an_ideal_response_ends_and_is_right():
  assert respond.ideal(*toy()) == ''
  assert respond.ideal(*toy(prefill='<think>\n')) == ''
  assert respond.ideal(*toy(stop=('</answer>',))) == ''


def test_what_no_response_can_do_is_said():
  assert 'gets no format' in respond.ideal(*toy(prefill='Well: '))
  assert 'no stop' in respond.ideal(*toy(stop=('<end>',)))
  c, *rest = toy()
  short = dataclasses.replace(c.sample, max_new_tokens=5)
  assert 'max_new_tokens is 5' in respond.ideal(
    dataclasses.replace(c, sample=short), *rest
  )
  lost = dataclasses.replace(c.sample, ends=(10**6,))
  good, text = respond.ending(dataclasses.replace(c, sample=lost), WORDS)
  assert not good and 'never drawn' in text


def test_the_command_says_whether_a_pod_holds_it(experiment, tmp_path, capsys):
  to = tmp_path / 'report.json'
  command = ['preflight', '--config', str(experiment), '--formula']
  command += ['--topology', 'v5e:16x16', '--pass-rate', '0.1']
  assert cli.main([*command, '--json', str(to)]) == 0
  out = capsys.readouterr().out
  assert 'It fits' in out and '19% at a pass rate' in out
  found = json.loads(to.read_text())
  assert found['fits'] and found['devices'] == 256
  assert [x['name'] for x in found['programs']] == [
    'train',
    'score',
    'prefill',
    'decode',
  ]


def test_the_command_names_what_would_make_it_fit(experiment, capsys):
  command = ['preflight', '--config', str(experiment), '--formula']
  command += ['--topology', 'v5e:2x4', '--config.micro_batch_size=2']
  command += [
    '--config.grpo.prompts_per_step=2',
    '--config.sample.decode_slots=8',
  ]
  assert cli.main(command) == 1
  out = capsys.readouterr().out
  assert 'It does not fit' in out and '--topology v5e:' in out


def test_unknown_keys_and_rows_that_cannot_be_shared_are_said(
  experiment, capsys
):
  command = ['preflight', '--config', str(experiment), '--formula']
  command += ['--topology', 'v5e:16x16']
  assert cli.main([*command, '--config.mirco=3']) == 2
  assert 'did you mean config.micro_batch_size' in capsys.readouterr().err
  assert cli.main([*command, '--config.micro_batch_size=32']) == 1
  assert 'BAD keys: 64 devices share the rows' in capsys.readouterr().out


def test_a_small_local_model_is_tried_out(base, tmp_path, capsys):
  toy = tmp_path / 'x' / 'toy.py'
  toy.parent.mkdir()
  toy.write_text("""
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
  command = ['preflight', '--config', str(toy), '--topology', 'cpu:4']
  assert cli.main([*command, f'--config.init={base / "model"}']) == 0
  out = capsys.readouterr().out
  assert 'ok  sampler and trainer' in out
  assert 'dead groups:' in out and 'ok  end token' in out
