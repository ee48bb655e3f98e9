import sys

import numpy as np
import pytest

from r1jax import errors
from r1jax.data import tasks
from r1jax.rewards import registry


def test_toy_answers_are_the_sum_modulo_ten():
  for record in tasks.toy_records(50, seed=0, digits=5):
    assert len(record['prompt']) == 5
    total = sum(map(int, record['prompt']))
    assert record['answer'] == str(total % 10)


def test_toy_response_thinks_the_first_running_sums():
  response = tasks.toy_response('31415926', 3)
  assert response == '<think>348</think><answer>1</answer>'
  assert tasks.toy_response('95', 0) == '<think></think><answer>4</answer>'
  assert tasks.toy_response('95', 2) == '<think>94</think><answer>4</answer>'


def test_toy_corpus_is_right_at_every_depth_of_thought():
  records = tasks.toy_records(4000, seed=1)
  texts = [record['response'] for record in records]
  reward_N, _ = registry.weighted_rewards(
    {'accuracy': 1, 'format': 1}, records, texts
  )
  np.testing.assert_array_equal(reward_N, 2)
  steps_N = np.array([text.index('</think>') - 7 for text in texts])
  share = np.bincount(steps_N, minlength=9) / 4000
  np.testing.assert_allclose(share, [0.2] + [0.1] * 8, atol=0.025)


def test_toy_records_are_a_function_of_the_seed():
  one, two = tasks.toy_records(9, seed=2), tasks.toy_records(9, seed=2)
  assert one == two != tasks.toy_records(9, seed=3)
  assert len({record['id'] for record in one}) == 9


def test_a_source_is_a_path_or_a_task(tmp_path):
  path = tmp_path / 'a:b.jsonl'
  path.write_text('{"prompt": "a", "answer": "1"}')
  assert tasks.load_records(str(path), seed=0)[0]['answer'] == '1'
  assert tasks.load_records(
    'toy:running_sum?count=3&digits=4', 5
  ) == tasks.toy_records(3, 5, digits=4)


@pytest.mark.parametrize(
  'source, sentence',
  [
    ('toy:running_sum', 'must say how many'),
    ('toy:running_sum?count=0', 'must say how many'),
    ('toy:running_sum?count=many', 'must say how many'),
    ('toy:running_sum?count=3&digit=4', 'the toy tasks are'),
    ('toy:running_sum?count=3&digits=0', 'digits must be'),
    ('toy:sum?count=3', 'the toy tasks are'),
    ('toy:running_sum?count', 'is not one key=value'),
    ('toy:running_sum?count=3&count=4', 'is not one key=value'),
    ('tyo:running_sum?count=3', 'there is no data file'),
  ],
)
def test_a_source_that_says_nothing_clear_is_refused(source, sentence):
  with pytest.raises(errors.UserError, match=sentence):
    tasks.load_records(source, seed=0)


def test_gym_tasks_come_by_name_with_their_settings():
  pytest.importorskip('reasoning_gym')
  source = 'gym:products?count=4&min_digits=1&max_digits=1'
  records = tasks.load_records(source, seed=0)
  assert records == tasks.gym('products', 4, 0, min_digits=1, max_digits=1)
  assert [record['id'] for record in records] == [
    f'products/0/{n}' for n in range(4)
  ]
  texts = [f'<answer>{record["answer"]}</answer>' for record in records]
  np.testing.assert_array_equal(
    registry.weighted_rewards({'accuracy': 1}, records, texts)[0], 1
  )


@pytest.mark.parametrize(
  'source, sentence',
  [
    ('gym:prodcts?count=4', 'near it are products'),
    ('gym:products?count=4&max_dgits=1', "refuses {'max_dgits': 1}"),
    ('gym:products?count=4&max_digits=0', "refuses {'max_digits': 0}"),
  ],
)
def test_gym_refusals_are_sentences(source, sentence):
  pytest.importorskip('reasoning_gym')
  with pytest.raises(errors.UserError, match=sentence):
    tasks.load_records(source, seed=0)


def test_a_missing_reasoning_gym_says_how_to_get_it(monkeypatch):
  monkeypatch.setitem(sys.modules, 'reasoning_gym', None)
  with pytest.raises(errors.UserError, match='pip install reasoning-gym'):
    tasks.gym('products', 4, 0)


def test_products_are_asked_of_the_calculator_a_fifth_of_the_time():
  records = tasks.load_records('toy:product?count=2000&digits=2', 7)
  asks = ['<calc>' in record['response'] for record in records]
  assert abs(np.mean(asks) - 0.2) < 0.04
  for record in records[:50]:
    a, b = map(int, record['prompt'].split('*'))
    assert 10 <= a <= 99 and record['answer'] == str(a * b)
    assert record['response'].endswith(f'<answer>{a * b}</answer>')
  assert records == tasks.load_records('toy:product?count=2000&digits=2', 7)
