"""Results come in the order of the jobs; a hostile job harms no other."""

import concurrent.futures
import contextlib
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from r1jax.sandbox import workers

EVAL = 'builtins:eval'
MANY_SECONDS = 60.0  # A slow machine needs a small part of them for a job.
BOMBS = {
  'memory': '"x" * 10**10',
  'crashed': '__import__("os").abort()',
  'died': '__import__("os").kill(__import__("os").getpid(), 9)',
  'output': '"x" * (65 << 20)',
  'error: ZeroDivisionError: division by zero': '1 / 0',
}
FOR_EVER = '9**9**9'


@pytest.fixture(scope='module')
def pool():
  with workers.Pool(2, MANY_SECONDS, 512 << 20) as opened:
    yield opened


def alive(pids):
  return [x for x in pids if pathlib.Path(f'/proc/{x}/stat').exists()]


def wait_for(condition):
  """Whether the condition becomes true within minutes."""
  deadline = time.monotonic() + 300
  while not condition() and time.monotonic() < deadline:
    time.sleep(0.02)
  return condition()


def all_end(pids):
  return wait_for(lambda: not alive(pids))


def test_results_come_in_the_order_of_the_jobs(pool):
  results = pool.map('math:sqrt', [[n] for n in range(50)])
  assert [x.value for x in results] == [math.sqrt(n) for n in range(50)]
  assert not any(x.failure for x in results)
  assert pool.map('math:sqrt', []) == []


def assert_fails_alone(pool, failure, text):
  results = pool.map(EVAL, [['1 + 1'], [text], ['2 + 2']])
  assert [x.failure for x in results] == ['', failure, '']
  assert pool.map(EVAL, [['3 + 3']] * 3) == [workers.Result(6, '')] * 3
  assert pool.counts[failure.partition(':')[0]] > 0


@pytest.mark.parametrize('failure', BOMBS)
def test_a_hostile_job_fails_alone(pool, failure):
  assert_fails_alone(pool, failure, BOMBS[failure])


def test_a_job_that_exceeds_its_cpu_time_fails_alone():
  with workers.Pool(2, 1.0, 512 << 20) as pool:
    assert_fails_alone(pool, 'timeout', FOR_EVER)


def test_a_worker_that_closes_its_output_has_crashed(pool):
  silent = '__import__("os").closerange(0, 99) or __import__("time").sleep(900)'
  started = time.monotonic()
  (result,) = pool.map(EVAL, [[silent]])
  assert result.failure == 'crashed'
  assert time.monotonic() - started < 300  # It was killed in its sleep.


def test_a_worker_that_cannot_start_is_an_error(monkeypatch):
  monkeypatch.setattr(sys, 'executable', '/bin/false')
  with workers.Pool(1, 5.0, 512 << 20) as pool:
    (result,) = pool.map('math:sqrt', [[4]])
  assert result.failure.startswith('error: ')


def test_memory_that_a_failed_job_holds_does_not_fail_the_next():
  kept = (
    '__import__("builtins").__dict__.setdefault("kept", ["x" * (300 << 20)])'
  )
  with workers.Pool(1, MANY_SECONDS, 512 << 20) as pool:
    (result,) = pool.map(EVAL, [[f'{kept} and "x" * (400 << 20)']])
    assert result.failure == 'memory'
    (result,) = pool.map(EVAL, [['len("x" * (300 << 20))']])
    assert result.value == 300 << 20


class CountingBuffer(bytearray):
  """Counts the bytes that are searched and copied."""

  work = 0

  def find(self, *args):
    self.work += len(self)
    return super().find(*args)

  def __contains__(self, item):
    self.work += len(self)
    return super().__contains__(item)

  def __iadd__(self, data):
    self.work += len(data)
    return super().__iadd__(data)


def test_the_work_for_a_large_result_is_linear_in_its_size():
  size = 20 << 20
  job = json.dumps([EVAL, [f'"x" * {size}']]).encode() + b'\n'
  with contextlib.closing(workers._Worker(1 << 30)) as worker:
    worker.unread = buffer = CountingBuffer()
    result = worker.run(job, MANY_SECONDS, MANY_SECONDS)
  assert len(result.value) == size
  assert size <= buffer.work < 2 * size


def test_a_large_job_arrives_whole(pool):
  (result,) = pool.map('builtins:len', [['x' * (20 << 20)]])
  assert result.value == 20 << 20


def test_sets_have_the_same_order_in_every_worker():
  found = []
  for _ in range(2):
    with workers.Pool(1, MANY_SECONDS, 512 << 20) as pool:
      text = 'list({"a", "b", "c", "dd", "ee", "fff"})'
      found.append(pool.map(EVAL, [[text]])[0].value)
  assert found[0] == found[1]


def test_several_threads_can_close_a_pool():
  pool = workers.Pool(2, 5.0, 512 << 20)
  threads = [threading.Thread(target=pool.close) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(300)
  assert not any(thread.is_alive() for thread in threads)


def test_a_sleeping_job_ends_at_its_limit_of_wall_time():
  with workers.Pool(1, 0.1, 512 << 20) as pool:
    started = time.monotonic()
    (result,) = pool.map('time:sleep', [[600]])
    assert result.failure == 'timeout' and time.monotonic() - started > 1


def test_printed_output_does_not_mix_with_results(pool):
  flood = '[print(\'["value", 7]\' * 1000) for _ in range(100)] and 5'
  assert pool.map(EVAL, [[flood]] * 3) == [workers.Result(5, '')] * 3


def test_a_job_that_is_too_large_is_not_sent(pool):
  assert (
    pool.map('builtins:len', [['x' * workers.MAX_BYTES]])[0].failure == 'input'
  )
  assert pool.map('builtins:len', [['x' * 10**6]])[0].value == 10**6


def test_a_function_that_cannot_be_imported_is_an_error_with_a_reason(pool):
  for function in ('no_such_module:f', 'math:no_such_function'):
    (result,) = pool.map(function, [[1]])
    assert result.failure.startswith('error: ')
    assert 'no_such' in result.failure


def test_a_job_is_run_again_if_its_worker_is_killed(pool, tmp_path):
  mark = str(tmp_path / 'mark')
  kills = (
    'not __import__("os").path.exists(MARK) and open(MARK, "w").close() is '
    'None and __import__("os").kill(__import__("os").getpid(), 9) or 8'
  )
  (result,) = pool.map(EVAL, [[kills.replace('MARK', repr(mark))]])
  assert result == workers.Result(8, '')


def test_a_worker_survives_the_signals_of_a_machine_that_shuts_down(pool):
  text = '[os.kill(os.getpid(), x) for x in (1, 2, 15)] and os.getpid()'
  text = f'(lambda os: {text})(__import__("os"))'
  first, second = pool.map(EVAL, [[text], [text]])
  assert not first.failure + second.failure


def test_several_threads_can_use_a_pool(pool):
  found = {}

  def run(n):
    found[n] = [x.value for x in pool.map('math:pow', [[n, 2], [n, 3]])]

  threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert found == {n: [n**2, n**3] for n in range(8)}


def test_closing_a_pool_ends_its_processes():
  with workers.Pool(2, MANY_SECONDS, 512 << 20) as pool:
    child = '__import__("subprocess").Popen(["sleep", "9999"]).pid'
    pids = [
      x.value for x in pool.map(EVAL, [['__import__("os").getpid()'], [child]])
    ]
    assert alive(pids)
  assert all_end(pids)
  assert pool.map('math:sqrt', [[4]])[0].value == 2  # It can be used again.
  pool.close()


def test_closing_a_pool_cancels_jobs_that_have_not_begun(tmp_path):
  mark, ended = tmp_path / 'mark', []
  job = f'open({str(mark)!r}, "a").write("x") and __import__("time").sleep(1)'

  def run():
    try:
      pool.map(EVAL, [[job]] * 99)
    except concurrent.futures.CancelledError as error:
      ended.append(error)

  pool = workers.Pool(1, MANY_SECONDS, 512 << 20)
  thread = threading.Thread(target=run)
  thread.start()
  assert wait_for(mark.exists)
  pool.close()
  thread.join()
  assert ended and len(mark.read_text()) < 9
  pool.close()


def test_a_computing_worker_ends_with_its_parent(tmp_path):
  mark = tmp_path / 'computes'
  job = f'open({str(mark)!r}, "w") and {FOR_EVER}'
  text = f"""
from r1jax.sandbox import workers
pool = workers.Pool(1, 600.0, 512 << 20)
print(pool.map('os:getpid', [[]])[0].value, flush=True)
pool.map('builtins:eval', [[{job!r}]])
"""
  parent = subprocess.Popen(
    [sys.executable, '-c', text], stdout=subprocess.PIPE, text=True
  )
  worker = int(parent.stdout.readline())
  assert wait_for(mark.exists)
  assert alive([worker])
  os.kill(parent.pid, signal.SIGKILL)
  parent.wait()
  parent.stdout.close()
  assert all_end([worker])


def test_a_worker_does_not_get_secrets_of_the_environment(monkeypatch):
  monkeypatch.setenv('HF_TOKEN', 'hf_secret')
  with workers.Pool(1, MANY_SECONDS, 512 << 20) as pool:
    (result,) = pool.map(EVAL, [['dict(__import__("os").environ)']])
  assert 'HF_TOKEN' not in result.value and 'PATH' in result.value
