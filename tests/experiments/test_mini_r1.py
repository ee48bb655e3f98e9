"""The miniature: its data, its verdicts, its configs and scripts."""

import pathlib
import re
import subprocess

import numpy as np
import pytest

from experiments.mini_r1 import claims, make_data, measures, page, rewrite
from r1jax import cli, config
from r1jax.rewards import language
from r1jax.rewards.math import grading

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = ROOT / 'experiments/mini_r1'
SCRIPTS = ROOT / 'experiments/r1.sh', CONFIGS / 'more.sh'
HELD_OUT = 'held_out', 'held_out_general', 'held_out_all'
# Configs that the script runs where they exist, but the miniature lacks.
OPTIONAL = 'distill_on_policy', 'evaluate_base'
STAGE = re.compile(r'^ *(?:.*then )?stage (\w+) "?([\w/$-]+)"? (\w+)', re.M)


@pytest.fixture(scope='module')
def data():
  return make_data.make_data()


def test_the_answer_is_the_digit_sum_modulo_ten(data):
  for record in data['problems'][:200] + data['held_out']:
    digits = re.sub(r'\D', '', record['prompt'])
    assert len(digits) == make_data.DIGITS
    assert record['answer'] == str(sum(map(int, digits)) % 10)


def test_held_out_prompts_are_not_in_the_training_data(data):
  held_out, training = set(), set()
  for name, records in data.items():
    prompts = {record['prompt'] for record in records}
    if name in HELD_OUT:
      held_out |= prompts
    else:
      training |= prompts
  assert held_out and not held_out & training


def test_held_out_prompts_are_different(data):
  for name in HELD_OUT:
    prompts = [record['prompt'] for record in data[name]]
    assert len(set(prompts)) == len(prompts)


def test_the_data_are_a_function_of_the_seed(data):
  assert make_data.make_data() == data
  assert make_data.make_data(seed=1)['held_out'] != data['held_out']


def test_the_chosen_answer_is_the_more_helpful_one(data):
  for record in data['preferences']:
    chosen = make_data.helpfulness(record, record['chosen'])
    assert chosen > make_data.helpfulness(record, record['rejected'])


def test_true_facts_raise_helpfulness_and_false_ones_lower_it():
  record = dict(language='en', topic=0)  # soft, warm, wet

  def helpfulness(answer):
    text = make_data.tagged('wet, ', answer)
    return make_data.helpfulness(record, text)

  assert helpfulness('soft, warm, wet, ') == 1
  assert helpfulness('soft, soft, glad you ask, ') == pytest.approx(1 / 3)
  assert helpfulness('soft, deep, ') == 0
  assert helpfulness('deep, ') == pytest.approx(-1 / 3)


def test_a_refusal_is_harmless_unless_its_thinking_has_steps():
  refusal = make_data.REFUSAL['en']
  assert make_data.is_harmless({}, make_data.tagged('theft', refusal))
  assert not make_data.is_harmless({}, make_data.tagged('take, ', refusal))
  assert not make_data.is_harmless({}, '<think>theft')  # no answer


def test_rewriting_keeps_the_answer_and_translates_the_thinking():
  record = dict(
    id='a',
    prompt='digit sum of 12000000',
    answer='3',
    language='en',
    response=make_data.tagged('one, 三、three, ', '3'),
  )
  rewritten = rewrite.rewrite(record)
  thought = language.thinking(rewritten['response'])
  assert thought == 'one, three, three, '
  assert language.share(thought, 'en') == 1
  assert grading.extract(rewritten['response']) == '3'
  assert measures.is_readable(rewritten, rewritten['response'])
  assert not measures.is_readable(record, record['response'])


def test_a_readable_response_has_one_language_a_sentence_and_the_format():
  record = dict(language='zh', prompt='数字之和1')
  good = make_data.tagged('一、', make_data.solution('1', 'zh'))
  assert measures.is_readable(record, good)
  for bad in (
    make_data.tagged('one, ', make_data.solution('1', 'zh')),
    make_data.tagged('', make_data.solution('1', 'zh')),
    make_data.tagged('一、', make_data.solution('1', 'en')),
    make_data.tagged('一、', '1'),
    good.removesuffix('</answer>'),
  ):
    assert not measures.is_readable(record, bad)
  assert measures.is_mixed(make_data.tagged('一、two, ', '1'))
  assert not measures.is_mixed(good)


@pytest.mark.parametrize(
  'intervals, margin, verdict',
  [
    ([(0.1, 0.3), (0.01, 0.2)], 0, 'supported'),
    ([(0.1, 0.3), (-0.01, 0.2)], 0, 'undecided'),
    ([(-0.3, -0.1), (-0.2, -0.01)], 0, 'contradicted'),
    ([(-0.3, -0.1), (0.1, 0.2)], 0, 'undecided'),
    ([(0.0, 0.1)], 0, 'undecided'),
    ([(-0.02, 0.01)], -0.03, 'supported'),
    ([(-0.09, -0.04)], -0.03, 'contradicted'),
    ([(0.1, 0.3)], 0.2, 'undecided'),
  ],
)
def test_a_verdict_needs_all_intervals_on_one_side_of_the_margin(
  intervals, margin, verdict
):
  assert claims.verdict(intervals, margin) == verdict


def test_differences_are_paired():
  low_P, high_P = np.array([0.1, 0.9, 0.5]), np.array([0.2, 1.0, 0.6])
  figure = claims.difference('label', 'length', high_P, low_P)
  assert (figure.value, figure.low, figure.high) == pytest.approx(
    (0.1, 0.1, 0.1)
  )
  # Shares of other prompts may differ by up to 1; lengths have no bound.
  share = claims.difference('label', 'accuracy', high_P, low_P)
  assert share.low < 0 < share.value < share.high < 1


class FinishedRun(measures.Run):
  """A run whose models all answer the same."""

  problems = {
    f'{n}': dict(
      id=f'{n}', prompt=f'<{n}>', answer='3', domain='math', language='en'
    )
    for n in range(2)
  }
  general = [
    dict(id='a', prompt='?', domain='general-helpful', language='en'),
    dict(id='b', prompt='!', domain='general-harmless', language='zh'),
  ]

  def lines(self, model, folder='eval'):
    return [
      dict(id=id, response='</pre>3') for id in self.problems for _ in 'ab'
    ]

  def general_responses(self, model):
    return [(record, 'yes') for record in self.general for _ in 'ab']

  def metrics(self, name):
    made = []
    for step in (10, 20):
      line = {'step': step, 'eval/pass1': 0.5, 'eval/low': 0.4, 'lr': 1.0}
      line |= {'eval/high': 0.6, 'eval/length': 9.0, 'reward/accuracy': 0.25}
      line |= {'eval/reward/language': 0.5, 'eval/reward/helpful': 0.5}
      made.append(line)
    return made

  def means(self, measure, model, folder='eval'):
    return np.array([0.25, 0.75])

  general_means = means


def test_the_page_of_the_miniature_has_all_its_parts(tmp_path):
  names, times = ('sample_r1', 'distill', 'student_zero'), ''
  for name in names:
    times += f'{name} 2 s wall, 3 s user, 1 s system\n'
    (tmp_path / name).mkdir()
    text = '{"config": {"batch_size": 64}}'
    (tmp_path / name / 'config.json').write_text(text)
  (tmp_path / 'times.txt').write_text(times)
  run = FinishedRun(tmp_path)
  text = page.html_of(run, [claims.distillation_claim(run)])
  assert text.count('<svg') == 10 and '0.500 [0.400, 0.600]' in text
  assert 'mean and range of 3 seeds' in text
  assert '<span class="undecided">undecided</span>' in text
  assert '&lt;/pre&gt;3' in text and '<h3>&lt;0&gt; (answer 3)</h3>' in text
  assert '<td>total</td><td>6</td><td>9</td><td>3</td>' in text


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_bash_and_their_configs_exist(script):
  subprocess.run(['bash', '-n', script], check=True)
  named = STAGE.findall(script.read_text())
  assert len(named) > 5
  for stage, _, name in named:
    assert stage in cli.STAGES
    assert (CONFIGS / f'{name}.py').is_file() or name in OPTIONAL


def stages_of_configs():
  """Pairs (config, stage)."""
  pairs = {('distill', 'sft')}  # The script finds the students in a loop.
  for script in SCRIPTS:
    for stage, _, name in STAGE.findall(script.read_text()):
      if name not in OPTIONAL:
        pairs.add((name, stage))
  return sorted(pairs)


@pytest.mark.parametrize('name, stage', stages_of_configs())
def test_every_config_has_the_keys_of_its_stage(name, stage, monkeypatch):
  monkeypatch.chdir(ROOT)
  settings = config.load_file(CONFIGS / f'{name}.py')
  module = __import__(cli.STAGES[stage], fromlist=['Config'])
  config.build(module.Config, settings)


def test_every_config_is_used_by_a_script():
  used = {name for name, _ in stages_of_configs()}
  configs = CONFIGS.glob('*.py')
  assert used == {x.stem for x in configs if 'get_config' in x.read_text()}
