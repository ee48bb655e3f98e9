"""Records that cannot be used are all named at the start, or left out."""

import json

import pytest

from r1jax import errors
from r1jax.data import record_files, tasks, templates
from r1jax.data.bad_records import BadRecords
from r1jax.rewards import registry

GOOD = dict(prompt='1+1', answer='2')


def write(path, rows):
  lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
  path.write_text('\n'.join(lines) + '\n')
  return path


BAD = [
  dict(prompt='', answer='2'),
  dict(prompt='?', answer=None),
  dict(answer='2'),
  '{"prompt"',
  '7',
  '{"prompt": "\\ud800", "answer": "2"}',
  dict(prompt='?', answer='2', id='data/1'),
]


@pytest.mark.parametrize(
  'first, numbers',
  [(GOOD, {3, 4, 5, 6, 7, 8, 9}), (dict(answer='2'), {1, 3, 4, 5, 6, 7, 8})],
)
def test_all_bad_lines_of_a_file_are_named(first, numbers, tmp_path):
  path = write(tmp_path / 'data.jsonl', [first, GOOD, *BAD])
  with pytest.raises(errors.UserError) as caught:
    record_files.read(path)
  text = str(caught.value)
  assert text.startswith('7 of 9 records of')
  assert {n for n in range(1, 10) if f'jsonl line {n}' in text} == numbers


def test_bad_lines_may_be_left_out_and_are_counted(tmp_path, capsys):
  path = write(tmp_path / 'data.jsonl', [GOOD, *BAD, GOOD])
  bad = BadRecords(skip=True)
  records = tasks.load_records(str(path), 0, bad)
  bad.finish(len(records), 'x.jsonl')
  assert [record['id'] for record in records] == ['data/1', 'data/9']
  assert 'left out 7 of 9 records of x.jsonl:' in capsys.readouterr().out


@pytest.mark.parametrize(
  'count, more', [(20, ''), (25, 'and 5 more: q20, q21, q22, q23, q24')]
)
def test_at_most_twenty_are_listed(count, more):
  golds = [dict(id=f'q{n}', prompt='?', answer='((') for n in range(count)]
  good = dict(id='a', prompt='?', answer='2')
  with pytest.raises(errors.UserError) as caught:
    registry.check_rewards({'accuracy': 1.0}, [good, *golds])
  text = str(caught.value)
  assert text.startswith(f'{count} of {count + 1} records')
  assert text.count('the gold answer') == 20 and more in text


def test_lines_and_golds_are_named_together(tmp_path):
  rows = [GOOD, dict(prompt='?', answer=None), dict(prompt='?', answer='((')]
  bad = BadRecords()
  path = write(tmp_path / 'data.jsonl', rows)
  records = tasks.load_records(str(path), 0, bad)
  records = registry.check_rewards({'accuracy': 1.0}, records, bad=bad)
  assert len(records) == 1
  with pytest.raises(errors.UserError, match='2 of 3 .*skip_bad_records=True'):
    bad.finish(len(records), 'data.jsonl')


def test_a_source_without_a_good_record_is_refused(capsys):
  bad = BadRecords(skip=True)
  bad.note('1', 'record 1 is bad')
  with pytest.raises(errors.UserError, match='no record of x can be used'):
    bad.finish(0, 'x')


def test_records_of_a_function_are_named_alike(tmp_path):
  path = tmp_path / 'own_bad_records.py'
  path.write_text(
    'def rows(seed):\n'
    "  return [dict(prompt='?', id=1), 3, dict(prompt=''), dict(prompt='!', "
    'id=1)]\n'
  )
  with pytest.raises(errors.UserError) as caught:
    tasks.load_records(f'{path}:rows', 0)
  text = str(caught.value)
  assert text.startswith('3 of 4 records') and "have the id '1'" in text
  assert 'record 1 of' in text and 'record 2 of' in text


class Letters:
  prefix = ''

  def encode(self, text):
    return list(text.encode())


def test_all_long_prompts_are_named_or_left_out(capsys):
  lengths = 3, 9, 4, 12
  records = [dict(id=f'q{n}', prompt='x' * n) for n in lengths]
  prompt = templates.PromptConfig(template='plain', max_len=8)
  with pytest.raises(errors.UserError) as caught:
    templates.fitting(Letters(), records, prompt, False)
  assert 'record q9 has 9 tokens' in str(caught.value)
  assert 'record q12 has 12 tokens' in str(caught.value)
  kept, longest = templates.fitting(Letters(), records, prompt, True)
  assert [x['id'] for x in kept] == ['q3', 'q4'] and longest == 4
  assert 'left out 2 of 4 records' in capsys.readouterr().out


def test_a_key_that_an_object_has_twice_is_refused(tmp_path):
  path = tmp_path / 'x.jsonl'
  path.write_text('{"prompt": "a", "answer": 1, "answer": 2}')
  with pytest.raises(
    errors.UserError, match="line 1 has a key twice .*'answer'"
  ):
    record_files.read(path)


@pytest.mark.parametrize(
  'row',
  [
    dict(prompt='?', answer=[1, 2]),
    dict(prompt='?', answer=' 1'),
    dict(prompt='?', target=3),
    dict(question='?', answer='no mark', target=3),
    dict(problem='?', answer='1', target=3),
  ],
)
def test_a_record_with_a_scorer_keeps_all_keys(row, tmp_path):
  row = row | dict(scorer='own.py:score', id='a')
  path = write(tmp_path / 'data.jsonl', [row])
  (record,) = record_files.read(path)
  assert record == row | dict(prompt='?')
