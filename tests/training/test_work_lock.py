"""One run at a time writes to a work directory; what dead processes left does
not hold others up."""

import json
import os
import subprocess
import sys
import time

import pytest

from r1jax import cli, errors
from r1jax.training import work_lock
from r1jax.training.work_lock import FILE, locked


@pytest.fixture
def process():
  """Another process that lives."""
  command = [sys.executable, '-c', 'import time; time.sleep(600)']
  with subprocess.Popen(command) as process:
    yield process
    process.kill()


def held(folder, pid, **changes):
  """Writes the lock of a process; its path."""
  started = work_lock._process_started(pid)
  holder = work_lock._this_process() | dict(pid=pid, process_started=started)
  folder.mkdir(exist_ok=True)
  path = folder / FILE
  path.write_text(json.dumps(holder | dict(token='its') | changes))
  return path


def names(folder):
  return [path.name for path in folder.iterdir()]


def test_the_lock_is_released_also_after_an_error(tmp_path):
  for _ in range(2):
    with locked(tmp_path):
      assert names(tmp_path) == [FILE]
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
      1 / 0  # noqa: B018
    assert names(tmp_path) == []


def test_a_new_folder_that_stays_empty_is_removed(tmp_path):
  with locked(tmp_path / 'a' / 'new'):
    pass
  with locked(tmp_path / 'used'):
    (tmp_path / 'used' / 'file').touch()
  assert names(tmp_path / 'a') == [] and names(tmp_path / 'used') == ['file']


def test_a_directory_of_a_living_process_is_refused(tmp_path, process):
  path = held(tmp_path, process.pid, host='the-host', time='yesterday')
  before = path.read_text()
  message = f'in use by process {process.pid} on the-host, .* at yesterday'
  for _ in range(2):
    with pytest.raises(errors.UserError, match=message), locked(tmp_path):
      pass
    assert path.read_text() == before and names(tmp_path) == [FILE]


def test_the_lock_of_an_ended_process_is_replaced(tmp_path, process):
  path = held(tmp_path, process.pid)
  process.kill()
  os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
  # It has ended, but nobody has waited for it.
  with locked(tmp_path):
    assert json.loads(path.read_text())['pid'] == os.getpid()
  held(tmp_path, process.pid, process_started='17')
  process.wait()
  with locked(tmp_path):
    pass
  assert names(tmp_path) == []


def test_another_process_with_the_number_of_the_holder_is_not_the_holder(
  tmp_path, process
):
  held(tmp_path, process.pid, process_started='17')
  with locked(tmp_path):
    pass


def test_a_folder_in_the_place_of_the_lock_is_refused(tmp_path):
  (tmp_path / FILE).mkdir()
  with pytest.raises(errors.UserError, match=f'{FILE} is a folder'):
    with locked(tmp_path):
      pass
  assert names(tmp_path) == [FILE]


DAMAGED = json.dumps(dict(machine=work_lock._machine(), pid='x', token=5))


@pytest.mark.parametrize('content', ['', '{"pid"', '[]', '{"pid": 1}', DAMAGED])
def test_a_lock_that_was_never_written_is_replaced(content, tmp_path):
  path = tmp_path / FILE
  path.write_text(content)
  long_ago = time.time() - 1000
  os.utime(path, (long_ago, long_ago))
  with locked(tmp_path):
    pass


def test_a_holder_on_another_machine_is_alive_while_it_touches_the_lock(
  tmp_path, monkeypatch, capsys
):
  path, waits = held(tmp_path, 1, machine='another', host='tpu-3'), []

  def sleep(seconds):
    waits.append(seconds)
    if len(waits) == 3:
      os.utime(path)

  monkeypatch.setattr(work_lock.time, 'sleep', sleep)
  with pytest.raises(errors.UserError, match='process 1 on tpu-3'):
    with locked(tmp_path):
      pass
  assert len(waits) == 3
  assert 'is of another machine: waits up to 60' in capsys.readouterr().out


def test_a_silent_holder_on_another_machine_is_dead(tmp_path, monkeypatch):
  path = held(tmp_path, 1, machine='another')
  touched, waits = path.stat().st_mtime, []
  monkeypatch.setattr(work_lock.time, 'sleep', waits.append)
  monkeypatch.setattr(
    work_lock, '_now_at', lambda path: touched + 20 * len(waits)
  )
  with locked(tmp_path):
    assert json.loads(path.read_text())['pid'] == os.getpid()
  assert waits == [1, 1, 1]


def test_of_two_that_replace_a_dead_holder_one_wins(tmp_path):
  first, second = (work_lock._Lock(tmp_path) for _ in range(2))
  held(tmp_path, 1, process_started='17')
  seen = work_lock._read(tmp_path / FILE)
  first.acquire()
  second._remove(seen)  # It saw the dead holder before the first came.
  assert not second._create()
  first.release()
  assert names(tmp_path) == []


def test_the_holder_touches_its_lock(tmp_path, monkeypatch):
  monkeypatch.setattr(work_lock, 'TOUCHED', 0.001)
  with locked(tmp_path):
    path = tmp_path / FILE
    os.utime(path, (1000, 1000))
    end = time.monotonic() + 60
    while path.stat().st_mtime == 1000:
      assert time.monotonic() < end
      time.sleep(0.001)


def test_a_process_ends_if_another_took_its_lock_while_it_was_suspended(
  tmp_path, monkeypatch, capsys
):
  codes = []
  monkeypatch.setattr(work_lock, 'TOUCHED', 0.001)
  monkeypatch.setattr(work_lock.os, '_exit', codes.append)
  with locked(tmp_path):
    path = held(tmp_path, 1, machine='another')
    end = time.monotonic() + 60
    while not codes:
      assert time.monotonic() < end
      time.sleep(0.001)
  assert codes[0] == errors.USER_ERROR
  assert f'another run has taken {tmp_path}' in capsys.readouterr().err
  assert path.exists()  # It is not this process's.


def test_a_directory_that_cannot_be_written_needs_no_lock(
  tmp_path, monkeypatch
):
  def refused(lock):
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr(work_lock._Lock, '_create', refused)
  with locked(tmp_path):
    assert names(tmp_path) == []


def test_a_command_in_an_occupied_directory_exits_with_2(
  tmp_path, process, capsys
):
  data = tmp_path / 'data.jsonl'
  data.write_text('{"prompt": "?", "answer": "1", "response": "1"}\n')
  run = tmp_path / 'run'
  held(run, process.pid)
  options = ['--records', str(data), '--workdir', str(run)]
  assert cli.main(['verify', *options]) == 2
  assert f'{run} is in use by process {process.pid}' in capsys.readouterr().err
  assert names(run) == [FILE]
  (run / 'metrics.jsonl').write_text('{"step": 1, "loss": 0.5}\n')
  assert cli.main(['report', '--workdir', str(run)]) == 0  # It only reads.
