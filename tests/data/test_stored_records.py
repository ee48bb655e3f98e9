"""Records whose JSON is in a file equal those in memory."""

import errno
import json
import os

import pytest

from r1jax import errors
from r1jax.data import record_files, stored_records, tasks, tools
from r1jax.data.stored_records import RowFile
from r1jax.distributed import agreement

RECORDS = [
  dict(id='a', prompt='né 🙂 \ud800', answer='1'),
  dict(id='b', prompt='', turns=[dict(role='user', content='x')], answer=None),
  dict(id='c', prompt='z' * 5000, level=0.1, ids=[2**40, True, []]),
]


@pytest.mark.parametrize('max_memory', [1, 1 << 20], ids=['file', 'memory'])
def test_stored_records_equal_those_in_memory(max_memory, monkeypatch):
  monkeypatch.setattr(stored_records, 'MAX_MEMORY', max_memory)
  rows = RowFile()
  stored = [stored_records.store(rows, record) for record in RECORDS]
  assert isinstance(rows.file.name, int) == (max_memory == 1)
  for _ in range(2):
    assert stored == RECORDS
    assert [x['id'] for x in reversed(stored)] == ['c', 'b', 'a']
  first = stored[0]
  assert first | dict(answer='2') == RECORDS[0] | dict(answer='2')
  assert dict(id='d', more=1) | first == dict(id='a', more=1) | RECORDS[0]
  assert first.get('level') is None and 'level' not in first
  assert rows[1:] == RECORDS[1:]
  with pytest.raises(IndexError):
    rows[3]
  assert agreement.digest_of_records(stored) == agreement.digest(RECORDS)
  assert agreement.digest_of_records([]) == agreement.digest([])


def test_the_records_of_a_file_are_stored_and_split_alike(
  tmp_path, monkeypatch
):
  path = tmp_path / 'x.jsonl'
  rows = [dict(prompt=f'{n % 70}', answer=n) for n in range(90)]
  path.write_text('\n'.join(map(json.dumps, rows)))
  monkeypatch.setattr(stored_records, 'MAX_MEMORY', 100)
  records = tasks.load_records(str(path), 0)
  assert all(isinstance(x, stored_records.StoredRecord) for x in records)
  plain = [dict(record) for record in records]
  assert plain[88] == dict(prompt='18', answer='88', id='x/89')
  assert record_files.split(records, 9, 4) == record_files.split(plain, 9, 4)


def test_a_full_disk_is_a_sentence():
  def full(data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  rows = RowFile()
  rows.file.write = full
  with pytest.raises(errors.UserError, match='set TMPDIR .*No space left'):
    rows.add(RECORDS[0])


def test_a_tool_gets_a_dict():
  record = stored_records.store(RowFile(), RECORDS[1])
  tool = tools.Tool('show', '', lambda arguments, record: json.dumps(record))
  shown = tools.result(tool, '<show></show>', record)
  assert json.dumps(RECORDS[1]) in shown
