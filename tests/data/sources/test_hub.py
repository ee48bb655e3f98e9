"""Datasets by hf://, here of a folder and of a hub that cannot be reached."""

import json

import pytest

from r1jax import config as configs
from r1jax import errors
from r1jax.data import tasks
from r1jax.data.sources import source_rows
from r1jax.stages import rl


def test_the_parts_of_a_name():
  source = source_rows.parse(
    'hf://openai/gsm8k?config=main&split=train&answer=final'
  )
  assert source.is_of_hub and source.place == 'hf://openai/gsm8k'
  assert source.settings == dict(config='main', split='train')
  assert source.columns == dict(answer='final')
  assert source_rows.name_of(source.text) == 'gsm8k/train'


def test_configs_take_names_of_datasets_for_records_alone():
  config = configs.defaults(rl.Config)
  config.prompts = 'hf://openai/gsm8k?config=main&split=train'
  configs.build(rl.Config, config)
  config.init = 'hf://openai/gsm8k'
  with pytest.raises(
    errors.UserError, match='config.init is hf://.* OWNER/NAM'
  ):
    configs.build(rl.Config, config)


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
  datasets = pytest.importorskip('datasets')
  monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', tmp_path / 'cache')
  datasets.disable_progress_bars()
  for split, rows in dict(train=5, test=2).items():
    lines = [dict(question=f'{split} {n}', answer=n) for n in range(rows)]
    path = tmp_path / 'repo' / f'{split}.jsonl'
    path.parent.mkdir(exist_ok=True)
    path.write_text('\n'.join(map(json.dumps, lines)))
  return f'hf://{tmp_path}/repo'


def test_a_split_is_read_whole_or_streamed(hub_folder):
  records = tasks.load_records(f'{hub_folder}?split=test', 0)
  assert records == [
    dict(id='repo/test/1', prompt='test 0', answer='0'),
    dict(id='repo/test/2', prompt='test 1', answer='1'),
  ]
  records = tasks.load_records(f'{hub_folder}?split=train&limit=3', 0)
  assert [record['answer'] for record in records] == ['0', '1', '2']
  with pytest.raises(errors.UserError, match='its splits are train, test'):
    tasks.load_records(f'{hub_folder}?split=tset', 0)
  with pytest.raises(errors.UserError, match='several splits; its splits are'):
    tasks.load_records(hub_folder, 0)
  for split, message in (
    ('train+dev', 'no such split .*Unknown split "dev"'),
    ('train[100:]', 'no such split .*corresponds to no data'),
  ):
    with pytest.raises(errors.UserError, match=message):
      tasks.load_records(f'{hub_folder}?split={split}', 0)
  assert (
    len(tasks.load_records(f'{hub_folder}?split=train[1:]&limit=2', 0)) == 2
  )
  with pytest.raises(errors.UserError, match="config=NAME: .*'x' not found"):
    tasks.load_records(f'{hub_folder}?config=x&split=test', 0)


def test_columns_of_mixed_types_have_their_values(hub_folder, tmp_path):
  """`datasets` stores them as texts of JSON, also within lists."""
  parts = [dict(type='text', text='q')]
  rows = [
    dict(messages=[dict(role='user', content='p', name='A')], answer=1),
    dict(messages=[dict(role='user', content=parts)], answer='x'),
  ]
  folder = tmp_path / 'mixed'
  folder.mkdir()
  lines = '\n'.join(map(json.dumps, rows))
  (folder / 'train.jsonl').write_text(lines)
  for limit in ('', '&limit=2'):
    records = tasks.load_records(f'hf://{folder}?split=train{limit}', 0)
    assert [(x['prompt'], x['answer']) for x in records] == [
      ('p', '1'),
      ('q', 'x'),
    ]


def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch):
  datasets = pytest.importorskip('datasets')

  def refuse(*arguments, **options):
    raise ConnectionError('[Errno 111]')

  monkeypatch.setattr(datasets, 'load_dataset_builder', refuse)
  with pytest.raises(
    errors.UserError, match='hub cannot be reached.*Errno 111'
  ):
    tasks.load_records('hf://openai/gsm8k?split=train', 0)
  with pytest.raises(errors.UserError, match='is named hf://OWNER/NAME'):
    tasks.load_records('hf://openai/gsm8k/main.parquet', 0)
