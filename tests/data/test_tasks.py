"""Toy tasks, tasks of reasoning-gym, and the sources that name them."""

import itertools
import sys

import numpy as np
import pytest

from r1jax import errors, user_code
from r1jax.data import gym_tasks, tasks
from r1jax.rewards import registry


def test_running_sum_responses_think_the_first_sums_and_answer_the_last():
  for record in tasks.load_records('toy:running_sum?count=50&digits=5', 0):
    sums = itertools.accumulate(map(int, record['prompt']))
    text = ''.join(str(total % 10) for total in sums)
    thinking, answer = record['response'].split('</think>')
    assert len(text) == 5 and record['answer'] == text[-1]
    assert text.startswith(thinking.removeprefix('<think>'))
    assert answer == f'<answer>{text[-1]}</answer>'


def test_running_sum_responses_are_right_for_any_amount_of_thinking():
  records = tasks.load_records('toy:running_sum?count=4000', seed=1)
  texts = [record['response'] for record in records]
  reward_N, _ = registry.weighted_rewards(
    {'accuracy': 1, 'format': 1}, records, texts
  )
  np.testing.assert_array_equal(reward_N, 2)
  steps_N = np.array([text.index('</think>') - 7 for text in texts])
  share = np.bincount(steps_N, minlength=9) / 4000
  np.testing.assert_allclose(share, [0.2] + [0.1] * 8, atol=0.025)


@pytest.mark.parametrize('name', tasks.TOYS)
def test_toy_records_are_a_function_of_the_seed(name):
  source = f'toy:{name}?count=9'
  records = tasks.load_records(source, 2)
  assert records == tasks.load_records(source, 2)
  assert records != tasks.load_records(source, 3)
  assert len({record['id'] for record in records}) == 9


def test_a_source_is_a_path_or_a_task(tmp_path):
  path = tmp_path / 'a:b.jsonl'
  path.write_text('{"prompt": "a", "answer": "1"}')
  assert tasks.load_records(str(path), seed=0)[0]['answer'] == '1'
  records = tasks.load_records('toy:running_sum?count=3&digits=4', 5)
  assert [len(record['prompt']) for record in records] == [4, 4, 4]


@pytest.mark.parametrize(
  'source, message',
  [
    ('toy:running_sum', 'must say how many'),
    ('toy:running_sum?count=0', 'must say how many'),
    ('toy:running_sum?count=many', 'must say how many'),
    ('toy:running_sum?count=3&digit=4', 'the toy tasks are'),
    ('toy:running_sum?count=3&digits=0', 'digits must be'),
    ('toy:sum?count=3', 'the toy tasks are'),
    ('toy:running_sum?count', 'is not one key=value'),
    ('toy:running_sum?count=3&count=4', "sets 'count' twice"),
    ('tyo:running_sum?count=3', 'there is no data file'),
  ],
)
def test_an_invalid_source_is_refused(source, message):
  with pytest.raises(errors.UserError, match=message):
    tasks.load_records(source, seed=0)


def test_gym_tasks_have_names_and_settings():
  pytest.importorskip('reasoning_gym')
  source = 'gym:products?count=4&min_digits=1&max_digits=1'
  records = tasks.load_records(source, seed=0)
  rows = gym_tasks.rows(source, 4, 0)
  assert [record['prompt'] for record in records] == [
    row['prompt'] for row in rows
  ]
  assert [record['id'] for record in records] == [
    f'products/0/{n}' for n in range(4)
  ]
  texts = [f'<answer>{record["answer"]}</answer>' for record in records]
  np.testing.assert_array_equal(
    registry.weighted_rewards({'accuracy': 1}, records, texts)[0], 1
  )


@pytest.mark.parametrize(
  'source, message',
  [
    ('gym:prodcts?count=4', 'near it are products'),
    ('gym:products?count=4&max_dgits=1', "refuses {'max_dgits': 1}"),
    ('gym:products?count=4&max_digits=0', "refuses {'max_digits': 0}"),
  ],
)
def test_an_invalid_gym_task_is_refused(source, message):
  pytest.importorskip('reasoning_gym')
  with pytest.raises(errors.UserError, match=message):
    tasks.load_records(source, seed=0)


def test_a_missing_reasoning_gym_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'reasoning_gym', None)
  with pytest.raises(errors.UserError, match='pip install reasoning-gym'):
    tasks.load_records('gym:products?count=4', 0)


def test_a_fifth_of_the_products_call_the_calculator():
  records = tasks.load_records('toy:product?count=2000', 7)
  calls = ['<calc>' in record['response'] for record in records]
  assert abs(np.mean(calls) - 0.2) < 0.04
  for record in records[:50]:
    a, b = map(int, record['prompt'].split('*'))
    assert 10 <= a <= 99 and record['answer'] == str(a * b)
    assert record['response'].endswith(f'<answer>{a * b}</answer>')


def records_of(given):
  return tasks.load_records(user_code.name_of(given), 3)


def test_own_records_get_ids_and_answers_as_text():
  given = [dict(prompt='a', answer=np.int64(4)), dict(prompt='b', id=7)]
  first, second = records_of(given)
  assert first['id'].endswith('/3/0') and first['answer'] == '4'
  assert second == dict(prompt='b', id='7')
  assert given[0]['answer'] == 4 and 'id' not in given[0]

  def numbered(seed, level=1):
    for n in range(level):
      yield dict(prompt=str(seed + n))

  name = user_code.name_of(numbered)
  found = tasks.load_records(f'{name}?level=5&count=2', 3)
  assert [x['prompt'] for x in found] == ['3', '4']


@pytest.mark.parametrize(
  'given, message',
  [
    (lambda: [], r'function \(seed\) -> records'),
    (lambda seed: 'abc', "returned str 'abc'; expected records"),
    (lambda seed: [1], 'record 0 of .* is int 1; expected a dict'),
    (lambda seed: [dict(question='x')], "record 0 .* has no key 'prompt'"),
    (lambda seed: [], 'has no records'),
    (
      lambda seed: [dict(prompt='x', id=1)] * 2,
      "two records .* have the id '1'",
    ),
    (lambda seed: 1 / 0, '(?s)failed.*ZeroDivisionError'),
    (lambda seed: (1 / 0 for _ in 'a'), '(?s)failed.*ZeroDivisionError'),
    (lambda seed: itertools.repeat({}), 'more than 1,000,000 records'),
    ([dict(prompt='x', image=object())], "'image' is not JSON"),
  ],
)
def test_what_are_no_records_is_refused(given, message):
  with pytest.raises(errors.UserError, match=message):
    records_of(given)


@pytest.mark.parametrize(
  'source, message',
  [
    ('', 'no records are given: set config.prompts'),
    ('nowhere.py:f', 'there is no file nowhere.py'),
    ('my_data.py', 'write FILE.py:NAME'),
    ('math:nope', "math has no 'nope'"),
  ],
)
def test_a_source_without_records_is_refused(source, message):
  with pytest.raises(errors.UserError, match=message):
    tasks.load_records(source, 0)
