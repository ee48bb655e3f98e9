"""experiments/word_problems on problems made here."""

import json
import pathlib

import pytest

from experiments.word_problems import world
from r1jax import cli, errors
from r1jax import config as configs
from r1jax.data import record_files
from r1jax.rewards import format
from r1jax.rewards.math import grading

FOLDER = pathlib.Path(world.__file__).parent
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
  """The three files, small."""
  monkeypatch.setattr(world, 'COLD', 3)
  monkeypatch.setattr(world, 'HELD_OUT', 2)
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
  response = world.rewrite(SOLUTION, '1,012')
  assert response == (
    '<think>\nHe has 3*4=12 pens.\nWith 1,000 more: 1012.\n</think>\n'
    '<answer>\\boxed{1,012}</answer>'
  )
  record = dict(answer='1012')
  assert grading.accuracy([record], [response]) == 1
  assert format.format_reward([record], [response]) == 1


def test_the_data_part_what_is_learnt_from_and_what_is_held_out(
  source, tmp_path, capsys
):
  world.main(tmp_path / 'data', source)
  made = {
    x.stem: record_files.read(x) for x in (tmp_path / 'data').glob('*.jsonl')
  }
  sizes = {name: len(records) for name, records in made.items()}
  assert sizes == dict(cold=3, problems=6, held_gsm8k=1, held_mawps=2)

  def prompts(name):
    return {x['prompt'] for x in made[name]}

  assert not prompts('problems') & (prompts('cold') | prompts('held_mawps'))
  assert all('response' not in x for x in made['problems'])
  assert all(x['response'].startswith('<think>') for x in made['cold'])
  capsys.readouterr()
  world.main(tmp_path / 'data')
  assert 'is finished' in capsys.readouterr().out


def test_without_a_source_it_is_said_which_files_are_needed(tmp_path):
  with pytest.raises(errors.UserError, match='mawps_singleop.jsonl'):
    world.main(tmp_path / 'data')


@pytest.mark.parametrize('name', STAGES)
def test_every_config_is_one_of_its_stage(name):
  config = configs.load_file(FOLDER / f'{name}.py')
  stage = cli.STAGES[STAGES[name]]
  configs.build(__import__(stage, fromlist=['Config']).Config, config)
