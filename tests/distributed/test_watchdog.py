"""Runs end, with a reason, on SIGTERM, without progress and without a host."""

import signal
import subprocess

import pytest
import toy_hosts


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
