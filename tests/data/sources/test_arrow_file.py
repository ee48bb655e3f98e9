"""Parquet and arrow files, and folders as save_to_disk writes them."""

import json

import numpy as np
import pytest

from r1jax import errors
from r1jax.data import tasks
from r1jax.training import inputs

pa = pytest.importorskip('pyarrow')
parquet = pytest.importorskip('pyarrow.parquet')

ROWS = [
  dict(prompt='a', answer=4, extra=dict(index=0, name=None), sizes=[1, 2]),
  dict(prompt='b', answer=5, extra=dict(index=1, name='x'), sizes=None),
]
RECORDS = [
  dict(id='x/1', prompt='a', answer='4', extra=dict(index=0), sizes=[1, 2]),
  dict(id='x/2', prompt='b', answer='5', extra=dict(index=1, name='x')),
]


def table():
  return pa.Table.from_pylist(ROWS)


def write_arrow(path, made, kind=pa.ipc.new_file):
  path.parent.mkdir(parents=True, exist_ok=True)
  with pa.OSFile(str(path), 'wb') as file:
    with kind(file, made.schema) as writer:
      writer.write_table(made)


def save_to_disk(folder, made):
  write_arrow(folder / 'data-0.arrow', made, pa.ipc.new_stream)
  state = dict(_data_files=[dict(filename='data-0.arrow')], _split=None)
  (folder / 'state.json').write_text(json.dumps(state))


def test_records_of_tables_are_those_of_their_rows(tmp_path):
  parquet.write_table(table(), tmp_path / 'x.parquet')
  write_arrow(tmp_path / 'x.arrow', table())
  write_arrow(tmp_path / 'stream' / 'x.arrow', table(), pa.ipc.new_stream)
  save_to_disk(tmp_path / 'saved' / 'x', table())
  for name in ('x.parquet', 'x.arrow', 'stream/x.arrow', 'saved/x'):
    assert tasks.load_records(str(tmp_path / name), 0) == RECORDS


def test_a_missing_integer_of_pandas_is_no_nan(tmp_path):
  made = pa.table(dict(prompt=['a', 'b'], answer=np.array([4.0, np.nan])))
  parquet.write_table(made, tmp_path / 'x.parquet')
  with pytest.raises(errors.UserError, match="row 2: 'answer' must be text or"):
    tasks.load_records(str(tmp_path / 'x.parquet'), 0)


def test_class_labels_are_their_names(tmp_path):
  feature = dict(names=['no', 'yes'], _type='ClassLabel')
  info = json.dumps(dict(info=dict(features=dict(answer=feature))))
  made = pa.table(dict(prompt=['a', 'b', 'c'], answer=[1, 0, 1]))
  made = made.replace_schema_metadata(dict(huggingface=info))
  parquet.write_table(made, tmp_path / 'x.parquet')
  records = tasks.load_records(str(tmp_path / 'x.parquet'), 0)
  assert [record['answer'] for record in records] == ['yes', 'no', 'yes']


def test_rows_of_verl_and_of_trl_are_read_from_parquet(tmp_path):
  user = dict(role='user', content='What is 2+2?')
  verl = dict(
    data_source='gsm8k',
    prompt=[user],
    reward_model=dict(ground_truth='4', style='rule'),
  )
  trl = dict(prompt=[user], completion=[dict(role='assistant', content='4')])
  for row, key in [(verl, 'answer'), (trl, 'response')]:
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / 'x.parquet')
    (record,) = tasks.load_records(str(tmp_path / 'x.parquet'), 0)
    assert (record['prompt'], record[key]) == ('What is 2+2?', '4')


def test_a_pattern_names_several_files(tmp_path):
  for n, row in enumerate(ROWS):
    made = pa.Table.from_pylist([row])
    parquet.write_table(made, tmp_path / f'train-{n}-of-2.parquet')
  records = tasks.load_records(f'{tmp_path}/train-*.parquet', 0)
  assert [(x['id'], x['prompt']) for x in records] == [
    ('train/1', 'a'),
    ('train/2', 'b'),
  ]
  (record,) = tasks.load_records(f'{tmp_path}/train-*.parquet?limit=1', 0)
  assert record['prompt'] == 'a'


def test_a_folder_of_splits_needs_the_name_of_one(tmp_path):
  for split, rows in dict(train=ROWS, test=ROWS[1:]).items():
    save_to_disk(tmp_path / 'x' / split, pa.Table.from_pylist(rows))
  splits = json.dumps(dict(splits=['train', 'test']))
  (tmp_path / 'x' / 'dataset_dict.json').write_text(splits)
  (record,) = tasks.load_records(f'{tmp_path}/x?split=test', 0)
  assert (record['id'], record['prompt']) == ('x/test/1', 'b')
  for query in ('', '?split=tset'):
    with pytest.raises(errors.UserError, match='its splits are train, test'):
      tasks.load_records(f'{tmp_path}/x{query}', 0)


def test_a_digest_covers_all_files_of_a_source(tmp_path):
  source = f'{tmp_path}/saved'
  save_to_disk(tmp_path / 'saved', table())
  before = inputs.of_source(source, 'records')
  assert list(before.files) == ['data-0.arrow']
  save_to_disk(tmp_path / 'saved', table().slice(1))
  difference = inputs.difference(
    before._asdict(), inputs.of_source(source, 'records')
  )
  assert difference == 'data-0.arrow has other content'
  parquet.write_table(table(), tmp_path / 'x.parquet')
  found = inputs.of_source(f'{tmp_path}/x.parquet?limit=1', 'records')
  assert list(found.files) == ['x.parquet']


@pytest.mark.parametrize(
  'name, message',
  [
    ('x.parquet', 'x.parquet is not a parquet file'),
    ('x.arrow', 'x.arrow is not an arrow file'),
    ('y.parquet', 'there is no data file'),
    ('x.parquet?split=train', 'split is of hf://'),
    ('x.parquet?limit=-1', 'limit must be 1 or more'),
  ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path, name, message):
  for suffix in ('parquet', 'arrow'):
    (tmp_path / f'x.{suffix}').write_bytes(b'PAR1 no table')
  with pytest.raises(errors.UserError, match=message):
    tasks.load_records(str(tmp_path / name), 0)


def test_bytes_are_refused_unless_the_column_is_left_out(tmp_path):
  made = pa.table(dict(prompt=['a'], image=[dict(bytes=b'PNG')]))
  parquet.write_table(made, tmp_path / 'x.parquet')
  source = f'{tmp_path}/x.parquet'
  with pytest.raises(errors.UserError, match="row 1: 'image' has bytes"):
    tasks.load_records(source, 0)
  assert len(tasks.load_records(f'{source}?image=', 0)) == 1


def test_two_columns_of_one_name_are_refused(tmp_path):
  columns = [pa.array(['q']), pa.array(['1']), pa.array(['2'])]
  made = pa.Table.from_arrays(columns, names=['prompt', 'answer', 'answer'])
  parquet.write_table(made, tmp_path / 'x.parquet')
  write_arrow(tmp_path / 'x.arrow', made)
  for name in ('x.parquet', 'x.arrow'):
    with pytest.raises(errors.UserError, match="two columns called 'answer'"):
      tasks.load_records(str(tmp_path / name), 0)


@pytest.mark.parametrize('kind', [pa.float16(), pa.float32(), pa.float64()])
def test_a_decimal_of_low_precision_is_the_number_that_was_written(
  tmp_path, kind
):
  value = np.array([0.1], kind.to_pandas_dtype())
  made = pa.table(dict(prompt=['q'], answer=pa.array(value, kind)))
  parquet.write_table(made, tmp_path / 'x.parquet')
  (record,) = tasks.load_records(f'{tmp_path}/x.parquet', 0)
  assert record['answer'] == '0.1'
