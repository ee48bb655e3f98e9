"""Rewards of the user's: their forms, their labels, and what is said when one
fails or returns something else than numbers."""

import os

import numpy as np
import pytest

import r1jax
from r1jax import errors, user_code
from r1jax.rewards import registry, user_rewards, verdict, verifiers

RECORDS = [dict(id=f'r/{n}', prompt='2+3', answer='5') for n in range(3)]
TEXTS = ['a', '<answer>5</answer>', 'ccc']
CONFIG = verdict.VerifyConfig(workers=2)


def lengths(records, texts):
  return [len(text) for text in texts]


def rewards_of(function, records=RECORDS, texts=TEXTS):
  name = user_code.name_of(function)
  with verifiers.Verifiers(CONFIG, records, [name]) as opened:
    reward_N, parts = registry.weighted_rewards(
      {name: 0.5}, records, texts, rules=opened.rules
    )
  (part_N,) = parts.values()
  return reward_N, part_N


@pytest.mark.parametrize(
  'returned, numbers',
  [
    ([1, 0.5, True], [1, 0.5, 1]),
    ((1, 0, -3), [1, 0, -3]),
    (np.array([1, 2, 3]), [1, 2, 3]),
    (np.float32([[1], [2], [3]])[:, 0], [1, 2, 3]),
    ([None, 1, float('nan')], [np.nan, 1, np.nan]),
    (iter([1, 2, 3]), [1, 2, 3]),
    ([np.float64(1), np.int8(2), np.array(3)], [1, 2, 3]),
  ],
)
def test_a_reward_is_one_number_a_text_and_none_is_not_judged(
  returned, numbers
):
  reward_N, part_N = rewards_of(lambda records, texts: returned)
  np.testing.assert_array_equal(part_N, np.float32(numbers))
  np.testing.assert_array_equal(reward_N, np.float32(numbers) / 2)
  assert reward_N.dtype == part_N.dtype == np.float32


@pytest.mark.parametrize(
  'returned, message',
  [
    (1.0, 'returned float 1.0; expected a sequence of 3 numbers'),
    (None, 'returned NoneType None; expected a sequence'),
    ('abc', "returned str 'abc'; expected a sequence"),
    ({1, 2, 3}, 'returned set'),
    ([1, 2], 'returned 2 values for 3 texts; expected one number for each'),
    ([], 'returned 0 values for 3 texts'),
    (
      [1, '2', 3],
      "returned str '2' for record 'r/1'; expected a finite number",
    ),
    ([1, 2, float('inf')], "float inf for record 'r/2'"),
    ([[1], [2], [3]], r"list \[1\] for record 'r/0'"),
    (np.zeros((3, 2)), "ndarray .* for record 'r/0'"),
  ],
)
def test_anything_but_numbers_is_refused(returned, message):
  with pytest.raises(errors.UserError, match=message):
    rewards_of(lambda records, texts: returned)


def test_an_exception_names_its_record_and_text_with_a_traceback():
  def fails(records, texts):
    return [1 / (len(text) - 3) for text in texts]

  with pytest.raises(errors.UserError) as error:
    rewards_of(fails)
  first, *rest = str(error.value).splitlines()
  assert first.endswith("failed on record 'r/2' with the text 'ccc'")
  assert rest[0].startswith('Traceback') and rest[-1].startswith('ZeroDivision')
  assert 'len(text) - 3' in str(error.value)


def test_an_exception_of_several_texts_together_names_the_records():
  def fails(records, texts):
    assert len(texts) < 2, 'too many'
    return [1.0]

  message = "failed on 3 texts together, of the records 'r/0', 'r/1', 'r/2'"
  with pytest.raises(errors.UserError, match=message):
    rewards_of(fails)


@r1jax.per_sample
def one(record, text):
  return record['answer'] in text


def test_a_function_of_one_text_becomes_a_reward():
  np.testing.assert_array_equal(rewards_of(one)[1], [0, 1, 0])
  wrapped = r1jax.per_sample(lambda record, text: len(text))
  np.testing.assert_array_equal(rewards_of(wrapped)[1], [1, 18, 3])
  assert one.function({'answer': 'x'}, 'x') and one.__name__ == 'one'


@pytest.fixture
def file(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'mine.py').write_text(
    'import os, r1jax\n'
    '@r1jax.per_sample(worker_seconds=20)\n'
    'def slow(record, text):\n'
    '  if text == "fail":\n'
    '    raise ValueError("no")\n'
    '  if text == "word":\n'
    '    return "word"\n'
    '  if text == "die":\n'
    '    os.abort()\n'
    '  return None if text == "ccc" else os.getpid()\n'
  )
  return 'mine.py:slow'


def test_a_reward_can_run_in_worker_processes(file):
  with verifiers.Verifiers(CONFIG, RECORDS, [file]) as opened:
    slow = opened.rules[file]
    pids = slow(RECORDS, ['a', 'b', 'ccc'])
    assert pids.mask.tolist() == [False, False, True]
    assert os.getpid() not in pids.data[:2]
    message = "(?s)failed on record 'r/0' with the text 'fail'.*ValueError: no"
    with pytest.raises(errors.UserError, match=message):
      slow(RECORDS[:1], ['fail'])
    with pytest.raises(errors.UserError, match="str 'word' for record"):
      slow(RECORDS[:1], ['word'])
    message = r"record 'r/0' .* 'die': its worker process failed \(crashed\)"
    with pytest.raises(errors.UserError, match=message):
      slow(RECORDS[:2], ['die', 'b'])


def test_workers_cannot_import_what_was_given_in_python():
  slow = r1jax.per_sample(lambda record, text: 1, worker_seconds=5)
  with pytest.raises(errors.UserError, match='put it into a file'):
    user_rewards.load(user_code.name_of(slow))


def test_a_reward_is_tried_on_empty_responses_before_a_run():
  def fails(records, texts):
    return [ord(text[0]) for text in texts]

  def of_two(record, text):
    return 1.0

  name = user_code.name_of(fails)
  with pytest.raises(errors.UserError, match="record 'r/0' with the text ''"):
    registry.check_rewards({name: 1.0}, RECORDS)
  name = user_code.name_of(of_two)
  with pytest.raises(errors.UserError, match='see r1jax.per_sample'):
    registry.check_rewards({name: 1.0}, RECORDS)
  name = user_code.name_of(lambda records: [])
  with pytest.raises(errors.UserError, match=r'function \(records, texts\)'):
    registry.check_rewards({name: 1.0}, RECORDS)
  with pytest.raises(errors.UserError, match='write FILE.py:NAME'):
    registry.check_rewards({'my_rewards.py': 1.0}, RECORDS)
  with pytest.raises(errors.UserError, match='write FILE.py:NAME'):
    registry.check_rewards({'my_rewards.py:': 1.0}, RECORDS)


def test_a_reward_of_one_domain_is_tried_on_its_records_only():
  def fails(records, texts):
    return [record['style'] for record in records]

  name = user_code.name_of(fails)
  records = [*RECORDS, dict(id='d', prompt='x', style=1, domain='general')]
  by_domain = dict(general={name: 1.0})
  registry.check_rewards({'format': 1.0}, records, by_domain)
  with pytest.raises(errors.UserError, match="KeyError: 'style'"):
    registry.check_rewards({name: 1.0}, records)


def test_a_label_is_the_name_alone_unless_two_rewards_have_it():
  names = ['format', 'a.py:short', 'b.py:long', 'c.py:long', 'd.py:format']
  assert registry.labels(names) == {
    'format': 'format',
    'a.py:short': 'short',
    'b.py:long': 'b.py:long',
    'c.py:long': 'c.py:long',
    'd.py:format': 'd.py:format',
  }


def test_a_worker_that_takes_too_long_does_not_judge(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'mine.py').write_text(
    'import r1jax\n'
    '@r1jax.per_sample(worker_seconds=0.2)\n'
    'def endless(record, text):\n'
    '  while text == "loop":\n'
    '    pass\n'
    '  return 1\n'
  )
  with verifiers.Verifiers(CONFIG, RECORDS, ['mine.py:endless']) as opened:
    reward_N = opened.rules['mine.py:endless'](RECORDS[:1], ['loop'])
  assert reward_N.mask.tolist() == [True]


def test_a_reward_cannot_change_the_records():
  def spoil(records, texts):
    for record in records:
      record['answer'] = '0'
    return [1.0] * len(texts)

  rewards_of(spoil)
  assert {record['answer'] for record in RECORDS} == {'5'}


@pytest.mark.parametrize('seconds', ['a', -1, float('inf'), None])
def test_the_seconds_of_a_worker_are_a_number(seconds):
  with pytest.raises(errors.UserError, match='worker_seconds is'):
    r1jax.per_sample(worker_seconds=seconds)


def test_slow_imports_of_a_users_file_do_not_count_as_time_of_a_text(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'mine.py').write_text(
    'import time, r1jax\n'
    'end = time.process_time() + 2.5\n'
    'while time.process_time() < end:\n'
    '  pass\n'
    '@r1jax.per_sample(worker_seconds=1)\n'
    'def one(record, text):\n'
    '  return 1\n'
  )
  with verifiers.Verifiers(CONFIG, RECORDS, ['mine.py:one']) as opened:
    reward_N = opened.rules['mine.py:one'](RECORDS[:1], ['a'])
  assert reward_N.tolist() == [1]
