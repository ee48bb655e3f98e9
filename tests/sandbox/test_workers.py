"""Workers: jobs in order, and what becomes of hostile ones."""

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
BOMBS = {
  'timeout': '9**9**9',
  'memory': '"x" * 10**10',
  'crashed': '__import__("os").abort()',
  'died': '__import__("os").kill(__import__("os").getpid(), 9)',
  'output': '"x" * (65 << 20)',
  'error: ZeroDivisionError: division by zero': '1 / 0',
}


@pytest.fixture(scope='module')
def pool():
  with workers.Pool(2, 0.4, 512 << 20) as opened:
    yield opened


def alive(pids):
  return [x for x in pids if pathlib.Path(f'/proc/{x}/stat').exists()]


def until(true, seconds=10):
  end = time.monotonic() + seconds
  while not true() and time.monotonic() < end:
    time.sleep(0.02)
  return true()


def test_answers_come_in_the_order_of_the_jobs(pool):
  answers = pool.map('math:sqrt', [[n] for n in range(50)])
  assert [x.value for x in answers] == [math.sqrt(n) for n in range(50)]
  assert not any(x.failure for x in answers)
  assert pool.map('math:sqrt', []) == []


@pytest.mark.parametrize('failure', BOMBS)
def test_a_bomb_costs_its_own_job_only(pool, failure):
  bombed = pool.map(EVAL, [['1 + 1'], [BOMBS[failure]], ['2 + 2']])
  assert [x.failure for x in bombed] == ['', failure, '']
  assert pool.map(EVAL, [['3 + 3']] * 3) == [workers.Answer(6, '')] * 3
  assert pool.counts[failure.partition(':')[0]] > 0


def test_a_worker_that_closes_its_output_is_a_crash(pool):
  silent = '__import__("os").closerange(0, 99) or __import__("time").sleep(60)'
  began = time.monotonic()
  (answer,) = pool.map(EVAL, [[silent]])
  assert answer.failure == 'crashed' and time.monotonic() - began < 30


def test_a_worker_that_cannot_begin_is_no_fault_of_the_job(monkeypatch):
  monkeypatch.setattr(sys, 'executable', '/bin/false')
  with workers.Pool(1, 5.0, 512 << 20) as pool:
    (answer,) = pool.map('math:sqrt', [[4]])
  assert answer.failure.startswith('error: ')


def test_who_ran_out_of_memory_does_not_judge_the_next():
  kept = (
    '__import__("builtins").__dict__.setdefault("kept", ["x" * (300 << 20)])'
  )
  with workers.Pool(1, 5.0, 512 << 20) as pool:
    (answer,) = pool.map(EVAL, [[f'{kept} and "x" * (400 << 20)']])
    assert answer.failure == 'memory'
    (answer,) = pool.map(EVAL, [['len("x" * (300 << 20))']])
    assert answer.value == 300 << 20


def test_large_answers_take_no_longer_than_their_bytes():
  began = time.monotonic()
  with workers.Pool(1, 10.0, 1 << 30) as pool:
    (answer,) = pool.map(EVAL, [['"x" * (20 << 20)']])
    assert len(answer.value) == 20 << 20
    (answer,) = pool.map('builtins:len', [[answer.value]])
    assert answer.value == 20 << 20
  assert time.monotonic() - began < 10


def test_sets_are_in_one_order_in_every_worker():
  found = []
  for _ in range(2):
    with workers.Pool(1, 5.0, 512 << 20) as pool:
      text = 'list({"a", "b", "c", "dd", "ee", "fff"})'
      found.append(pool.map(EVAL, [[text]])[0].value)
  assert found[0] == found[1]


def test_a_pool_may_be_closed_by_two_at_once():
  pool = workers.Pool(2, 5.0, 512 << 20)
  threads = [threading.Thread(target=pool.close) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(20)
  assert not any(thread.is_alive() for thread in threads)


def test_a_sleeper_is_ended_by_the_wall_clock():
  with workers.Pool(1, 0.1, 512 << 20) as pool:
    began = time.monotonic()
    (answer,) = pool.map('time:sleep', [[60]])
    assert answer.failure == 'timeout'
    assert 1 < time.monotonic() - began < 30


def test_prints_do_not_come_between_the_answers(pool):
  flood = '[print(\'["value", 7]\' * 1000) for _ in range(100)] and 5'
  assert pool.map(EVAL, [[flood]] * 3) == [workers.Answer(5, '')] * 3


def test_a_job_that_is_too_large_is_not_sent(pool):
  assert pool.map('builtins:len', [['x' * workers.MOST]])[0].failure == 'input'
  assert pool.map('builtins:len', [['x' * 10**6]])[0].value == 10**6


def test_what_cannot_be_loaded_is_an_error_with_its_reason(pool):
  for function in ('no_such_module:f', 'math:no_such_function'):
    (answer,) = pool.map(function, [[1]])
    assert answer.failure.startswith('error: ')
    assert 'no_such' in answer.failure


def test_a_worker_that_is_killed_once_costs_nothing(pool, tmp_path):
  """The first to come is killed while it works, and the job done again."""
  mark = str(tmp_path / 'mark')
  kills = (
    'not __import__("os").path.exists(MARK) and open(MARK, "w").close() is None '
    'and __import__("os").kill(__import__("os").getpid(), 9) or 8'
  )
  (answer,) = pool.map(EVAL, [[kills.replace('MARK', repr(mark))]])
  assert answer == workers.Answer(8, '')


def test_several_threads_may_ask_at_once(pool):
  found = {}

  def ask(n):
    found[n] = [x.value for x in pool.map('math:pow', [[n, 2], [n, 3]])]

  threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert found == {n: [n**2, n**3] for n in range(8)}


def test_nothing_is_left_of_a_pool_that_is_closed():
  with workers.Pool(2, 5.0, 512 << 20) as pool:
    child = '__import__("subprocess").Popen(["sleep", "99"]).pid'
    pids = [
      x.value for x in pool.map(EVAL, [['__import__("os").getpid()'], [child]])
    ]
    assert alive(pids)
  assert until(lambda: not alive(pids))
  assert pool.map('math:sqrt', [[4]])[0].value == 2  # It may begin anew.
  pool.close()


def test_workers_end_with_their_parent_though_they_compute():
  text = """
import threading, time
from r1jax import workers
pool = workers.Pool(1, 60.0, 512 << 20)
print(pool.map('os:getpid', [[]])[0].value, flush=True)
pool.map('builtins:eval', [['9**9**9']])
"""
  parent = subprocess.Popen(
    [sys.executable, '-c', text], stdout=subprocess.PIPE, text=True
  )
  worker = int(parent.stdout.readline())
  time.sleep(0.3)
  assert alive([worker])
  os.kill(parent.pid, signal.SIGKILL)
  parent.wait()
  parent.stdout.close()
  assert until(lambda: not alive([worker]))


def test_secrets_of_the_environment_do_not_reach_a_worker(monkeypatch):
  monkeypatch.setenv('HF_TOKEN', 'hf_secret')
  with workers.Pool(1, 5.0, 512 << 20) as pool:
    (answer,) = pool.map(EVAL, [['dict(__import__("os").environ)']])
  assert 'HF_TOKEN' not in answer.value and 'PATH' in answer.value
