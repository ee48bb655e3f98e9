"""The data and the configs of experiments/word_problems."""

import json
import pathlib

import pytest

from experiments.word_problems import make_data
from r1jax import cli, errors
from r1jax import config as configs
from r1jax.data import record_files
from r1jax.rewards import format
from r1jax.rewards.math import grading

FOLDER = pathlib.Path(make_data.__file__).parent
STAGES = dict(
  dev1='sft',
  dev2='rl',
  sample_dev2='reject',
  dev3='sft',
  r1='rl',
  evaluate='evaluate',
  evaluate_base='evaluate',
)
SOLUTION = 'He has 3*4=<<3*4=12>>12 pens.\nWith 1,000 more: 1012.\n#### 1,012'


@pytest.fixture
def source(tmp_path, monkeypatch):
  """A directory with small versions of the three files."""
  monkeypatch.setattr(make_data, 'COLD_START', 3)
  monkeypatch.setattr(make_data, 'HELD_OUT', 2)
  gsm8k = [dict(question=f'How many, {n}?', answer=SOLUTION) for n in range(5)]
  long = dict(question='How? ' * 90, answer=SOLUTION)
  unmarked = dict(question='How much?', answer='Three.\n#### 3')
  mawps = [dict(input=f'What is {n} + 1?', target=n + 1.0) for n in range(6)]
  for name, rows in (
    ('gsm8k_train', [long, *gsm8k, unmarked]),
    ('gsm8k_test', gsm8k[:1]),
    ('mawps_singleop', mawps),
  ):
    text = '\n'.join(map(json.dumps, rows))
    (tmp_path / f'{name}.jsonl').write_text(text + '\n')
  return tmp_path


def test_a_solution_becomes_thinking_and_a_boxed_answer():
  response = make_data.rewrite(SOLUTION, '1,012')
  assert response == (
    '<think>\nHe has 3*4=12 pens.\nWith 1,000 more: 1012.\n</think>\n'
    '<answer>\\boxed{1,012}</answer>'
  )
  record = dict(answer='1012')
  assert grading.accuracy([record], [response]) == 1
  assert format.format_reward([record], [response]) == 1


def test_held_out_problems_are_not_in_the_training_data(
  source, tmp_path, capsys
):
  make_data.main(tmp_path / 'data', source)
  made = {
    x.stem: record_files.read(x) for x in (tmp_path / 'data').glob('*.jsonl')
  }
  sizes = {name: len(records) for name, records in made.items()}
  assert sizes == dict(
    cold_start=3, problems=6, held_out_gsm8k=1, held_out_mawps=2
  )

  def prompts(name):
    return {x['prompt'] for x in made[name]}

  assert not prompts('problems') & (
    prompts('cold_start') | prompts('held_out_mawps')
  )
  assert all('response' not in x for x in made['problems'])
  assert all(x['response'].startswith('<think>') for x in made['cold_start'])
  capsys.readouterr()
  make_data.main(tmp_path / 'data')
  assert 'is finished' in capsys.readouterr().out


def test_the_error_without_a_source_names_the_files(tmp_path):
  with pytest.raises(errors.UserError, match='mawps_singleop.jsonl'):
    make_data.main(tmp_path / 'data')


@pytest.mark.parametrize('name', STAGES)
def test_every_config_has_the_keys_of_its_stage(name):
  config = configs.load_file(FOLDER / f'{name}.py')
  stage = cli.STAGES[STAGES[name]]
  configs.build(__import__(stage, fromlist=['Config']).Config, config)
