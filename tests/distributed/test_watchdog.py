"""Runs end, with a reason, on SIGTERM, without progress and without a host."""

import signal
import subprocess
import threading
import time

import jax
import pytest
import toy_hosts
from jax._src import compiler

from r1jax.distributed import hosts, signals, watchdog
from r1jax.rewards import verdict


def test_sigterm_to_one_host_ends_all_hosts(tmp_path):
  with toy_hosts.looping(2, tmp_path) as processes:
    processes.kill(1, signal.SIGTERM)
    assert processes.wait() == [75, 75]
    assert all('resumes the run' in processes.output(n) for n in (0, 1))


C_CALL = """
  import ctypes
  from r1jax.distributed import signals
  GRACE
  (workdir / str(host)).touch()
  libc = ctypes.CDLL(None)
  while libc.sleep(999):  # releases the lock; no signal handler runs
    pass
"""


@pytest.mark.parametrize(
  'number', [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
)
def test_a_signal_after_the_grace_period_ends_a_process_inside_a_c_call(
  tmp_path, number
):
  body = C_CALL.replace(
    'GRACE', 'signals.GRACE = dict.fromkeys(signals.GRACE, 0)'
  )
  with toy_hosts.looping(1, tmp_path, body, R1JAX_HOST='0') as process:
    process.kill(0, signal.SIGHUP)
    toy_hosts.wait_for(lambda: 'received SIGHUP' in process.output(0))
    process.kill(0, number)
    assert process.wait() == [128 + number]


def test_many_signals_within_the_grace_period_are_one_request(tmp_path):
  body = """
    (workdir / str(host)).touch()
    try:
      while not hosts.terminate_requested():
        time.sleep(0.01)
      print('saving', flush=True)
      while not (workdir / 'saved').exists():
        time.sleep(0.01)
    except BaseException as error:
      print('not saved', type(error))
      raise
    hosts.raise_if_terminating()
  """
  with toy_hosts.looping(1, tmp_path, body, R1JAX_HOST='0') as process:
    process.kill(0, signal.SIGTERM)
    toy_hosts.wait_for(lambda: 'saving' in process.output(0))
    for _ in range(3):
      for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        process.kill(0, number)
    (tmp_path / 'saved').touch()
    assert process.wait() == [75]
    assert 'not saved' not in process.output(0)


def test_sigterm_ends_a_device_program_if_the_state_is_saved(tmp_path):
  body = """
    import jax
    endless = jax.jit(lambda n: jax.lax.while_loop(
      lambda n: n >= 0, lambda n: (n + 1) % 1000, n))
    with watchdog.exit_early_if((workdir / 'saved').exists):
      (workdir / str(host)).touch()
      endless(0).block_until_ready()
  """
  with toy_hosts.looping(2, tmp_path, body) as processes:
    processes.kill(1, signal.SIGTERM)
    toy_hosts.wait_for(lambda: 'received SIGTERM' in processes.output(1))
    (tmp_path / 'saved').touch()
    assert processes.wait() == [75, 75]
    assert all('resumes the run' in processes.output(n) for n in (0, 1))


class Store:
  """A key-value store in which another host's heartbeats can be set."""

  def __init__(self):
    self.texts = {}

  def key_value_set(self, key, text, overwrite):
    self.texts[key] = text

  def key_value_dir_get(self, folder):
    return [(k, x) for k, x in self.texts.items() if k.startswith(folder)]


@pytest.fixture
def guard(tmp_path, monkeypatch):
  """A watchdog that notes where it would end the process. Nothing works."""
  one = watchdog.Watchdog(tmp_path, stuck=10, hosts=2, store=Store())
  one.ended = []
  monkeypatch.setattr(one, '_exit_stuck', lambda: one.ended.append(one.idle))
  monkeypatch.setattr(watchdog, '_work', lambda: watchdog._Work(0.0, 0))
  monkeypatch.setattr(watchdog, '_active', one)
  return one


def look(guard, ticks, each=lambda: None):
  """Whether the watchdog ends the process in so many ticks of a second."""
  for _ in range(ticks):
    each()
    guard._look(1.0)
  return bool(guard.ended)


def test_an_error_that_follows_that_of_another_host_has_its_code(
  guard, monkeypatch, capsys
):
  """Here nothing ends the process, so `follow` returns."""
  codes = []
  monkeypatch.setattr(guard, '_exit', codes.append)
  guard.follow()
  assert not codes
  guard.store.key_value_set('r1jax/error/1', '[2, "the disk is full"]', True)
  guard.follow()
  assert codes == [2]
  assert 'host 1: the disk is full' in capsys.readouterr().err


def test_a_process_without_heartbeats_is_stuck(guard):
  assert not look(guard, 9)
  assert look(guard, 2)


def test_heartbeats_are_progress(guard):
  assert not look(guard, 99, watchdog.heartbeat)


def test_heartbeats_of_another_host_are_progress(guard):
  beats = iter(range(99))

  def beat():
    guard.store.key_value_set('r1jax/heartbeats/1', str(next(beats)), True)

  assert not look(guard, 99, beat)
  assert look(guard, 25)


def test_the_limit_follows_the_longest_pause(guard):
  assert not look(guard, 8)
  watchdog.heartbeat()
  assert not look(guard, 30)  # 4 times the pause of 8 seconds
  assert look(guard, 5)


def test_a_suspended_machine_is_not_stuck(guard):
  guard._look(86400.0)
  assert not guard.ended


@pytest.mark.parametrize(
  'is_compiling, cpu, moved, working',
  [
    (True, 1.0, 0, True),
    (True, 0.0, 0, False),  # a compiler that waits
    (False, 1.0, 0, False),  # an endless loop
    (False, 0.0, 1 << 24, True),  # a checkpoint, a download
  ],
)
def test_compiling_and_files_are_progress(
  is_compiling, cpu, moved, working, guard, monkeypatch
):
  done = [watchdog._Work(n * cpu, n * moved) for n in range(99)]
  monkeypatch.setattr(watchdog, '_work', iter(done).__next__)
  monkeypatch.setattr(watchdog, '_is_compiling', lambda: is_compiling)
  assert look(guard, 20) != working


def test_an_expected_pause_is_not_stuck(guard):
  with watchdog.expected(1e6):
    assert not look(guard, 99)
  assert look(guard, 12)


def test_a_pause_is_expected_until_all_threads_have_ended_theirs(guard):
  long = watchdog.expected(1e6)
  with long:
    with watchdog.expected(1e6):
      pass
    assert not look(guard, 99)
  assert look(guard, 12)


@pytest.mark.parametrize('given, seconds', [('', 4 * 3600), ('6', 0)])
def test_r1jax_stuck_bounds_a_call_of_the_users_code(
  given, seconds, tmp_path, monkeypatch
):
  monkeypatch.setenv('R1JAX_STUCK', given)
  monkeypatch.delenv('R1JAX_HOSTS', raising=False)
  with hosts.connected(tmp_path):
    guard = watchdog._active
    with watchdog.calling_user_code():
      (until,) = guard.expected_until.values()
    assert guard.call_seconds == seconds
  assert (until > time.monotonic()) == bool(seconds)


def test_a_job_of_a_worker_is_expected_to_take_its_limits(guard):
  with verdict.open_pool(verdict.VerifyConfig(workers=1), 100.0) as pool:
    jobs = threading.Thread(target=pool.map, args=('time:sleep', [[1.0]]))
    jobs.start()
    while not guard.expected_until:
      pass
    assert not look(guard, 99)
    jobs.join()
  assert look(guard, 12)


def test_what_is_said_of_a_stuck_run_names_hosts_that_are_behind(guard):
  guard.heartbeats = 5
  assert guard._hosts_behind() == ''
  guard.store.key_value_set('r1jax/heartbeats/1', '3', True)
  assert guard._hosts_behind() == '; behind heartbeat 5: host 1 at 3'


def test_a_thread_in_the_compiler_is_seen(monkeypatch):
  seen, original = [], compiler.backend_compile_and_load

  def spy(*args, **kwargs):
    seen.append(watchdog._is_compiling())
    return original(*args, **kwargs)

  monkeypatch.setattr(compiler, 'backend_compile_and_load', spy)
  assert not watchdog._is_compiling()
  jax.jit(lambda x: x * 3.25 + 1).lower(1.0).compile()
  assert seen in ([True], [])  # [] if it comes from a cache


def test_a_thread_that_traces_or_lowers_a_program_is_seen():
  seen = []

  def traced(x):
    seen.append(watchdog._is_compiling())
    return x

  jax.jit(traced).lower(1.0)
  assert seen == [True] and not watchdog._is_compiling()


def test_one_process_has_a_limit_too_but_not_a_notebook(tmp_path, monkeypatch):
  monkeypatch.delenv('R1JAX_STUCK', raising=False)
  monkeypatch.delenv('R1JAX_HOSTS', raising=False)
  for notebook, limit in [(False, hosts.STUCK), (True, 0)]:
    monkeypatch.setattr(signals, 'in_notebook', lambda: notebook)
    with hosts.connected(tmp_path):
      assert watchdog._active.stuck == limit


def test_one_process_that_is_stuck_ends_with_70(tmp_path):
  body = """
    def sleeps():
      time.sleep(999)
    (workdir / str(host)).touch()
    sleeps()
  """
  with toy_hosts.looping(
    1, tmp_path, body, R1JAX_HOST='0', R1JAX_STUCK='2'
  ) as process:
    assert process.wait() == [70]
    output = process.output(0)
  assert 'the same command resumes' in output and 'behind' not in output
  assert 'sleeps' in (tmp_path / 'stacks-0.txt').read_text()


def test_a_stuck_host_is_named_and_its_stack_is_written(tmp_path):
  body = """
    (workdir / str(host)).touch()
    def sleeps():
      time.sleep(999)
    hosts.gather(0)
    guard = watchdog._active
    while len(guard._read('heartbeats')) < 2:
      time.sleep(0.05)
    watchdog.heartbeat()
    guard.stuck = 3
    if host == 1:
      sleeps()
    hosts.gather(1)
  """
  with toy_hosts.looping(2, tmp_path, body) as processes:
    codes = processes.wait()
    assert 70 in codes and 0 not in codes
    output = processes.output(codes.index(70))
    assert 'no progress for' in output
    assert ': host 1 at' in output or codes[0] != 70
    if codes[1] == 70:
      assert 'sleeps' in (tmp_path / 'stacks-1.txt').read_text()


@pytest.mark.slow
def test_hosts_end_within_the_heartbeat_of_a_killed_one(tmp_path):
  with toy_hosts.looping(4, tmp_path, R1JAX_HEARTBEAT='10') as processes:
    processes.kill(2)
    codes = processes.wait(toy_hosts.MANY_SECONDS // 2)
    assert codes[2] == -signal.SIGKILL and 0 not in codes and 75 not in codes


SLOW_ROLLOUT = """\
import sys, time
from r1jax import cli
from r1jax.stages import rl

sample_rollout = rl.sample_rollout

def slow_rollout(run, params, ref_params, position):
  if position.step == 2:
    print('sampling', flush=True)
    time.sleep(999)
  return sample_rollout(run, params, ref_params, position)

rl.sample_rollout = slow_rollout
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize('every, ended', [(1, True), (9, False)])
def test_sigterm_ends_a_rollout_if_its_policy_is_saved(
  every, ended, base, tmp_path
):
  _, _, *arguments = toy_hosts.rl(
    base, tmp_path, f'save_every={every}', 'steps=9'
  )
  with toy_hosts.running(1, ['-c', SLOW_ROLLOUT, *arguments]) as process:
    toy_hosts.wait_for(lambda: 'sampling' in process.output(0))
    process.kill(0, signal.SIGTERM)
    toy_hosts.wait_for(lambda: 'received SIGTERM' in process.output(0))
    if ended:
      assert process.wait() == [75]
      assert toy_hosts.saved(tmp_path) == 2
    else:
      with pytest.raises(subprocess.TimeoutExpired):
        process.wait(5)
