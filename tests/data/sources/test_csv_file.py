"""CSV files: quotes, line ends, byte order marks, empty cells, and faults."""

import gzip

import pytest

from r1jax import errors
from r1jax.data import record_files
from r1jax.data.bad_records import BadRecords
from r1jax.data.sources import csv_file


def read(path, data, **options):
  path.write_bytes(data)
  return [row for _, _, row in csv_file.rows(path, **options)]


def test_a_cell_in_quotes_may_hold_commas_quotes_and_line_ends(tmp_path):
  data = b'prompt,answer\r\n"a, ""b""\r\nc",1\r\n\r\nd,\r\n'
  assert read(tmp_path / 'x.csv', data) == [
    dict(prompt='a, "b"\r\nc', answer='1'),
    dict(prompt='d', answer=None),
  ]


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_byte_order_marks_are_no_part_of_the_first_column(tmp_path, encoding):
  data = 'prompt,answer\nnaïve,2\n'.encode(encoding)
  for name, content in [('x.csv', data), ('x.csv.gz', gzip.compress(data))]:
    path = tmp_path / name
    path.write_bytes(content)
    (record,) = record_files.read(path)
    assert record == dict(prompt='naïve', answer='2', id='x/1')


def test_tabs_separate_a_tsv_and_a_delimiter_can_be_named(tmp_path):
  row = dict(prompt='a,b', answer='1')
  assert read(tmp_path / 'x.tsv', b'prompt\tanswer\na,b\t1') == [row]
  (tmp_path / 'x.csv').write_bytes(b'prompt;answer\na,b;1')
  (record,) = record_files.read(f'{tmp_path}/x.csv?delimiter=;')
  assert record == row | dict(id='x/1')


def test_a_column_without_a_name_is_an_index_and_left_out(tmp_path):
  assert read(tmp_path / 'x.csv', b',prompt\n0,a\n1,b') == [
    dict(prompt='a'),
    dict(prompt='b'),
  ]


def test_cells_are_long(tmp_path):
  text = 'a' * 200_000
  assert read(tmp_path / 'x.csv', f'prompt\n{text}'.encode()) == [
    dict(prompt=text)
  ]


@pytest.mark.parametrize(
  'data, message',
  [
    (b'prompt,answer\n"a,1\n', r'is not CSV \(unexpected end of data, at line'),
    (b'prompt,answer\na,1,2\n', 'row 1 .*line 2.* has 3 cells, .* 2 columns'),
    (b'prompt,prompt\na,1\n', "two columns called 'prompt'"),
    (b'prompt;answer\na;1\n', 'name it .*x.csv[?]delimiter=;'),
    (b'prompt,answer\n\xe9,1\n', "not text in UTF-8: save it as 'CSV UTF-8'"),
    (b'', 'has no records: it is empty'),
    (b'prompt,answer\na,\n', "row 1: 'answer' must be text or a number"),
    (b'text,label\na,1\n', 'row 1 has the keys text, label'),
  ],
)
def test_a_fault_is_a_sentence_with_its_place(tmp_path, data, message):
  path = tmp_path / 'x.csv'
  path.write_bytes(data)
  with pytest.raises(errors.UserError, match=message):
    record_files.read(path)


def test_rows_at_fault_are_left_out_if_asked_for(tmp_path, capsys):
  path = tmp_path / 'x.csv'
  path.write_bytes(b'prompt,answer\na,1\nb\nc,3\n')
  bad = BadRecords(skip=True)
  records = record_files.read(path, bad)
  bad.finish(len(records), 'x.csv')
  assert [record['id'] for record in records] == ['x/1', 'x/3']
  assert 'left out 1 of 3 records' in capsys.readouterr().out
