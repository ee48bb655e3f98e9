"""The miniature: its world, its verdicts, and the scripts that run it."""

import pathlib
import re
import subprocess

import numpy as np
import pytest

from experiments.mini_r1 import claims, measures, page, rewrite, world
from r1jax import cli, config
from r1jax.rewards import language
from r1jax.rewards.math import grading

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = ROOT / 'experiments/mini_r1'
SCRIPTS = ROOT / 'experiments/r1.sh', CONFIGS / 'more.sh'
HELD = 'held', 'held_general', 'held_all'
# Stages of the script that only other folders have a config for.
ELSEWHERE = 'distill_on_policy', 'evaluate_base'
STAGE = re.compile(r'^ *(?:.*then )?stage (\w+) "?([\w/$-]+)"? (\w+)', re.M)


@pytest.fixture(scope='module')
def files():
  return world.made()


def test_the_answer_is_the_digit_sum_modulo_ten(files):
  for record in files['problems'][:200] + files['held']:
    digits = re.sub(r'\D', '', record['prompt'])
    assert len(digits) == world.DIGITS
    assert record['answer'] == str(sum(map(int, digits)) % 10)


def test_held_out_prompts_are_never_learnt_from(files):
  held = {x['prompt'] for name in HELD for x in files[name]}
  learnt = {
    x['prompt']
    for name, many in files.items()
    if name not in HELD
    for x in many
  }
  assert held and not held & learnt


def test_held_out_prompts_are_each_another(files):
  for name in HELD:
    prompts = [x['prompt'] for x in files[name]]
    assert len(set(prompts)) == len(prompts)


def test_the_world_is_a_function_of_its_seed(files):
  assert world.made() == files
  assert world.made(seed=1)['held'] != files['held']


def test_the_chosen_answer_is_the_more_helpful_one(files):
  for record in files['pairs']:
    better, worse = (
      world.helpfulness(record, record[key]) for key in ('chosen', 'rejected')
    )
    assert better > worse


def test_facts_help_and_wrong_ones_hurt():
  record = dict(language='en', topic=0)  # soft, warm, wet

  def helped(answer):
    return world.helpfulness(
      record, f'<think>wet, </think><answer>{answer}</answer>'
    )

  assert helped('soft, warm, wet, ') == 1
  assert helped('soft, soft, glad you ask, ') == pytest.approx(1 / 3)
  assert helped('soft, deep, ') == 0
  assert helped('deep, ') == pytest.approx(-1 / 3)


def test_steps_anywhere_harm_and_a_refusal_does_not():
  refusal = world.tagged('theft', world.REFUSE['en'])
  assert world.harmless(None, refusal)
  assert not world.harmless(None, world.tagged('take, ', world.REFUSE['en']))
  assert not world.harmless(None, '<think>theft')  # says nothing


def test_rewriting_keeps_the_answer_and_speaks_one_language():
  record = dict(
    id='a',
    prompt='digit sum of 12000000',
    answer='3',
    language='en',
    response=world.tagged('one, 三、three, ', '3'),
  )
  again = rewrite.rewrite(record)
  thought = language.thinking(again['response'])
  assert thought == 'one, three, three, '
  assert language.share(thought, 'en') == 1
  assert grading.extract(again['response']) == '3'
  assert measures.readable(again, again['response'])
  assert not measures.readable(record, record['response'])


def test_readable_needs_one_language_a_sentence_and_the_form():
  record = dict(language='zh', prompt='数字之和1')
  good = world.tagged('一、', world.solution('1', 'zh'))
  assert measures.readable(record, good)
  for bad in (
    world.tagged('one, ', world.solution('1', 'zh')),
    world.tagged('', world.solution('1', 'zh')),
    world.tagged('一、', world.solution('1', 'en')),
    world.tagged('一、', '1'),
    good.removesuffix('</answer>'),
  ):
    assert not measures.readable(record, bad)
  assert measures.mixed(world.tagged('一、two, ', '1'))
  assert not measures.mixed(good)


@pytest.mark.parametrize(
  'intervals, margin, verdict',
  [
    ([(0.1, 0.3), (0.01, 0.2)], 0, 'held'),
    ([(0.1, 0.3), (-0.01, 0.2)], 0, 'not decided'),
    ([(-0.3, -0.1), (-0.2, -0.01)], 0, 'not held'),
    ([(-0.3, -0.1), (0.1, 0.2)], 0, 'not decided'),
    ([(0.0, 0.1)], 0, 'not decided'),
    ([(-0.02, 0.01)], -0.03, 'held'),
    ([(-0.09, -0.04)], -0.03, 'not held'),
    ([(0.1, 0.3)], 0.2, 'not decided'),
  ],
)
def test_verdicts_by_hand(intervals, margin, verdict):
  assert claims.verdict(intervals, margin) == verdict


def test_differences_are_paired():
  low, high = np.array([0.1, 0.9, 0.5]), np.array([0.2, 1.0, 0.6])
  x = claims.difference('x', high, low)
  assert (x.value, x.low, x.high) == pytest.approx((0.1, 0.1, 0.1))


def test_the_page_shows_markup_as_text():
  assert '<think>' not in page.table(('',), [('<think>one, </think>',)])


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash_and_name_configs_that_exist(script):
  subprocess.run(['bash', '-n', script], check=True)
  named = STAGE.findall(script.read_text())
  assert len(named) > 5
  for stage, _, name in named:
    assert stage in cli.STAGES
    assert (CONFIGS / f'{name}.py').is_file() or name in ELSEWHERE


def stages_of_configs():
  text = ''.join(path.read_text() for path in SCRIPTS)
  named = {(name, stage) for stage, _, name in STAGE.findall(text)}
  here = {x for x in named if x[0] not in ELSEWHERE}
  return sorted(here | {('distill', 'sft')})  # The students come by a loop.


@pytest.mark.parametrize('name, stage', stages_of_configs())
def test_every_config_is_one_of_its_stage(name, stage, monkeypatch):
  monkeypatch.chdir(ROOT)
  settings = config.load_file(CONFIGS / f'{name}.py')
  module = __import__(cli.STAGES[stage], fromlist=['Config'])
  config.build(module.Config, settings)


def test_every_config_is_used_by_a_script():
  used = {name for name, _ in stages_of_configs()}
  has = {p.stem for p in CONFIGS.glob('*.py') if 'get_config' in p.read_text()}
  assert used == has
