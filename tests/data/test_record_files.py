"""Records of files in several formats, the held-out split, prompts by index."""

import json

import numpy as np
import pytest

from r1jax import errors
from r1jax.data import record_files


def write(path, *rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


def test_own_records_keep_their_keys(tmp_path):
  path = write(
    tmp_path / 'own.jsonl',
    dict(prompt='a\u2028b😀', answer='1', domain='math', id=7),
    dict(prompt='c', answer=2, response='d'),
  )
  assert record_files.read(path) == [
    dict(id='7', prompt='a\u2028b😀', answer='1', domain='math'),
    dict(id='own/2', prompt='c', answer='2', response='d'),
  ]


def test_an_own_record_needs_no_answer(tmp_path):
  rows = [dict(id='a', prompt='p', chosen='c', rejected='r')]
  assert record_files.read(write(tmp_path / 'own.jsonl', *rows)) == rows


def test_gsm8k_gold_follows_the_hashes(tmp_path):
  path = write(
    tmp_path / 'gsm.jsonl',
    dict(question='q', answer='3 * 4 = <<3*4=12>>12\n#### 1,012'),
  )
  assert record_files.read(path) == [
    dict(id='gsm/1', prompt='q', answer='1,012')
  ]


def test_math_500_gold_ends_the_solution(tmp_path):
  path = write(
    tmp_path / 'math.jsonl',
    dict(question='q', answer='so $\\boxed{p - q}.$The answer is: p - q'),
  )
  assert record_files.read(path) == [
    dict(id='math/1', prompt='q', answer='p - q')
  ]


def test_aime_ids_are_kept_and_solutions_dropped(tmp_path):
  row = dict(id=60, problem='q', answer='025', solution='s', question='q')
  path = write(tmp_path / 'aime.jsonl', row)
  assert record_files.read(path) == [dict(id='60', prompt='q', answer='025')]


def test_mawps_questions_are_read_once_and_whole_floats_as_integers(tmp_path):
  path = write(
    tmp_path / 'mawps.jsonl',
    dict(input='q', target=14.0),
    dict(input='r', target=3.33333),
    dict(input='q', target=14.0),
    dict(input='s', target=0.72),
  )
  assert record_files.read(path) == [
    dict(id='mawps/1', prompt='q', answer='14'),
    dict(id='mawps/2', prompt='r', answer='3.33333'),
    dict(id='mawps/4', prompt='s', answer='0.72'),
  ]


VALID = b'{"prompt": "a", "answer": "1"}\n\n'
INVALID = {
  'not JSON': b'{"prompt": "a"',
  'not utf-8': b'{"prompt": "\xff", "answer": "1"}',
  'not an object': b'["a", "1"]',
  'half a pair': b'{"prompt": "\\ud83d", "answer": "1"}',
  'a deep list': b'[' * 100_000,
  'blank prompt': b'{"prompt": " ", "answer": "1"}',
  'prompt is a number': b'{"prompt": 1, "answer": "1"}',
  'answer is an empty list': b'{"prompt": "a", "answer": []}',
  'answer is a list of lists': b'{"prompt": "a", "answer": [["1"]]}',
  'answer is null': b'{"prompt": "a", "answer": null}',
  'answer is true': b'{"prompt": "a", "answer": true}',
  'answer is NaN': b'{"prompt": "a", "answer": NaN}',
  'an id twice': b'{"prompt": "b", "answer": "1", "id": "own/1"}',
}


@pytest.mark.parametrize('name', INVALID)
def test_the_error_of_an_invalid_line_has_its_file_and_number(name, tmp_path):
  path = tmp_path / 'own.jsonl'
  path.write_bytes(VALID + INVALID[name] + b'\n')
  with pytest.raises(errors.UserError, match='own.jsonl line 3'):
    record_files.read(path)


def test_a_file_of_unknown_format_is_refused(tmp_path):
  path = write(tmp_path / 'x.jsonl', dict(text='a', label='b'))
  with pytest.raises(errors.UserError, match='line 1 has the keys text, label'):
    record_files.read(path)
  path = write(tmp_path / 'y.jsonl', dict(question='a', answer='so\nit is 4'))
  with pytest.raises(errors.UserError, match="y.jsonl line 1: 'answer' has se"):
    record_files.read(path)


def test_an_empty_or_missing_file_is_refused(tmp_path):
  (tmp_path / 'empty.jsonl').write_text('\n')
  with pytest.raises(errors.UserError, match='empty.jsonl has no records'):
    record_files.read(tmp_path / 'empty.jsonl')
  with pytest.raises(errors.UserError, match='there is no data file'):
    record_files.read(tmp_path / 'absent.jsonl')
  with pytest.raises(errors.UserError, match='it is a directory'):
    record_files.read(tmp_path)


def prompts(records):
  return {record['prompt'] for record in records}


def test_split_does_not_depend_on_the_order_of_the_records():
  records = [dict(prompt=f'q{n}') for n in range(40)]
  train, held_out = record_files.split(records, 7, seed=3)
  assert len(train) == 33 and len(held_out) == 7
  assert not prompts(train) & prompts(held_out)
  _, again = record_files.split(records[::-1], 7, seed=3)
  assert prompts(again) == prompts(held_out)
  _, other = record_files.split(records, 7, seed=4)
  assert prompts(other) != prompts(held_out)
  _, more = record_files.split(records, 8, seed=3)
  assert prompts(held_out) < prompts(more)


def test_split_keeps_equal_prompts_together():
  records = [dict(prompt=f'q{n % 5}') for n in range(20)]
  train, held_out = record_files.split(records, 2, seed=0)
  assert len(train) == 12 and len(held_out) == 8
  assert not prompts(train) & prompts(held_out)


def test_split_refuses_to_hold_out_all_prompts():
  with pytest.raises(errors.UserError, match='cannot hold out 2 of 2'):
    record_files.split([dict(prompt='a'), dict(prompt='b')], 2, seed=0)


def test_prompt_indices_are_permutations_that_resume_anywhere():
  size, whole = 7, record_files.prompt_indices(5, 0, 30, 7)
  for epoch in range(4):
    assert sorted(whole[epoch * size : (epoch + 1) * size]) == list(range(size))
  assert len({tuple(whole[e * size : (e + 1) * size]) for e in range(4)}) == 4
  for start in (0, 3, 7, 20):
    np.testing.assert_array_equal(
      record_files.prompt_indices(5, start, 10, size), whole[start : start + 10]
    )
  assert (record_files.prompt_indices(6, 0, 30, size) != whole).any()


def test_prompt_indices_are_stable_between_versions():
  assert record_files.prompt_indices(0, 0, 6, 4).tolist() == [0, 2, 1, 3, 3, 2]
