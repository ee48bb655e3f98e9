"""Columns that a user names for the keys of records, and their values."""

import datetime
import decimal
import json

import numpy as np
import pytest

from r1jax import errors, user_code
from r1jax.data import tasks
from r1jax.data.sources import columns


def mapped(row, **names):
  return next(columns.mapped([(1, 'x row 1', row)], names, 'x'))[2]


def test_a_column_gets_the_key_that_the_map_names():
  row = dict(question='q', final=4, answer='so\nit is 4', level=2)
  assert mapped(row, prompt='question', answer='final') == dict(
    level=2, prompt='q', answer=4
  )


def test_a_map_may_name_a_part_of_a_column_and_leave_one_out():
  row = dict(prompt='q', extra=dict(gold=dict(value=4)), image=b'PNG')
  assert mapped(row, answer='extra.gold.value', image='') == dict(
    prompt='q', extra=row['extra'], answer=4
  )


def test_two_columns_can_change_places():
  row = dict(prompt='a', response='b')
  assert mapped(row, prompt='response', response='prompt') == dict(
    prompt='b', response='a'
  )


def test_the_column_of_the_map_counts_among_those_of_one_meaning():
  row = dict(problem='p', question='q', answer=1, final_answer=2)
  assert mapped(row, prompt='question', answer='answer') == dict(
    prompt='q', answer=1
  )


def write(path, *rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def test_settings_of_a_source_name_columns_and_count_before_a_config(tmp_path):
  source = write(tmp_path / 'x.jsonl', dict(a='q', b=1, c=2))
  config_columns = dict(prompt='a', answer='b')
  records = tasks.load_records(source, 0, None, config_columns)
  assert records == [dict(c=2, prompt='q', answer='1', id='x/1')]
  records = tasks.load_records(f'{source}?answer=c', 0, None, config_columns)
  assert records == [dict(b=1, prompt='q', answer='2', id='x/1')]


def test_an_unknown_column_is_refused_with_those_that_exist(tmp_path):
  source = write(tmp_path / 'x.jsonl', dict(a='q', b=1), dict(a='r', c=2))
  message = (
    "no column 'd', which is to be its 'answer'; its columns are a, b, c"
  )
  with pytest.raises(errors.UserError, match=message):
    tasks.load_records(source, 0, None, dict(prompt='a', answer='d'))
  records = tasks.load_records(source, 0, None, dict(prompt='a', answer='c'))
  assert [record.get('answer') for record in records] == [None, '2']


def test_a_misspelt_setting_is_named(tmp_path):
  path = write(tmp_path / 'a.jsonl', dict(prompt='1', answer='2'))
  with pytest.raises(errors.UserError, match='Did you mean the setting limit'):
    tasks.load_records(f'{path}?limt=3', 0)


def test_lists_in_python_have_columns_too():
  name = user_code.name_of([dict(question='q', final=np.int64(4))])
  columns_of = dict(prompt='question', answer='final')
  (record,) = tasks.load_records(name, 0, None, columns_of)
  assert (record['prompt'], record['answer']) == ('q', '4')
  with pytest.raises(errors.UserError, match="no column 'x'.*are question, f"):
    tasks.load_records(name, 0, None, dict(prompt='x'))


def test_values_of_other_types_become_json():
  value = dict(
    array=np.array([[1, 2]]),
    number=np.float32(0.1),
    numbers=np.array([[0.1, 2]], np.float32),
    whole=decimal.Decimal('4.0'),
    part=decimal.Decimal('0.25'),
    day=datetime.date(2025, 1, 22),
    missing=float('nan'),
    text='a',
  )
  plain = columns.plain(value, 'x row 1', 'key')
  assert plain == dict(
    array=[[1, 2]],
    number=0.1,
    numbers=[[0.1, 2.0]],
    whole=4,
    part=0.25,
    day='2025-01-22',
    missing=None,
    text='a',
  )
  json.dumps(plain, allow_nan=False)


def test_bytes_of_an_image_are_refused_with_what_to_do():
  with pytest.raises(
    errors.UserError, match="x row 1: 'image' has bytes.*leave"
  ):
    columns.plain([dict(bytes=b'PNG')], 'x row 1', 'image')
