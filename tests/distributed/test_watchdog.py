"""A run that is told to end, hangs, or loses a host, ends, with its reason."""

import signal
import subprocess
import time

import pytest
import toy_hosts


def test_one_host_that_is_told_to_end_is_all(tmp_path):
  with toy_hosts.looping(2, tmp_path) as many:
    many.kill(1, signal.SIGTERM)
    assert many.wait(20) == [75, 75]
    assert all('the same command goes on' in many.said(n) for n in (0, 1))


def test_a_second_signal_ends_a_process_that_is_deep_in_something(tmp_path):
  body = """
    import ctypes
    (workdir / str(host)).touch()
    libc = ctypes.CDLL(None)
    while libc.sleep(99):  # holds no lock, and lets no handler run
      pass
  """
  with toy_hosts.looping(1, tmp_path, body, R1JAX_HOST='0') as one:
    one.kill(0, signal.SIGTERM)
    toy_hosts.wait_for(lambda: 'a second signal' in one.said(0))
    one.kill(0, signal.SIGTERM)
    assert one.wait(10) == [128 + signal.SIGTERM]


def test_where_nothing_is_lost_all_end_in_the_midst_of_a_program(tmp_path):
  body = """
    import jax
    from r1jax import watch
    for_ever = jax.jit(lambda n: jax.lax.while_loop(
      lambda n: n >= 0, lambda n: (n + 1) % 1000, n))
    with watch.nothing_lost((workdir / 'kept').exists):
      (workdir / str(host)).touch()
      for_ever(0).block_until_ready()
  """
  with toy_hosts.looping(2, tmp_path, body) as many:
    many.kill(1, signal.SIGTERM)
    toy_hosts.wait_for(lambda: 'told to end' in many.said(1))
    (tmp_path / 'kept').touch()
    assert many.wait(20) == [75, 75]
    assert all('the same command goes on' in many.said(n) for n in (0, 1))


def test_a_stuck_host_is_named_and_its_stack_is_kept(tmp_path):
  body = """
    (workdir / str(host)).touch()
    def loiters():
      time.sleep(99)
    hosts.gather(0)
    if host == 1:
      loiters()
    hosts.gather(1)
  """
  with toy_hosts.looping(2, tmp_path, body, R1JAX_STUCK='3') as many:
    codes = many.wait(30)
    assert 70 in codes and 0 not in codes
    said = many.said(codes.index(70))
    assert 'nothing has gone on for 3 seconds' in said
    assert 'behind: host 1 at' in said or codes[0] != 70
    if codes[1] == 70:
      assert 'loiters' in (tmp_path / 'stacks-1.txt').read_text()


@pytest.mark.slow
def test_a_killed_host_ends_the_others_within_the_heartbeat(tmp_path):
  with toy_hosts.looping(4, tmp_path) as many:
    many.kill(2)
    killed = time.monotonic()
    codes = many.wait(40)
    assert time.monotonic() - killed < 25  # R1JAX_HEARTBEAT=10
    assert codes[2] == -signal.SIGKILL and 0 not in codes and 75 not in codes


DEEP = """\
import sys, time
from r1jax import main, rl_run

draw = rl_run.draw

def slow(r, params, facts):
  if facts['step'] == 2:
    print('deep', flush=True)
    time.sleep(99)
  return draw(r, params, facts)

rl_run.draw = slow
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.parametrize('every, ended', [(1, True), (9, False)])
def test_a_rollout_is_given_up_if_its_policy_is_saved(
  every, ended, base, tmp_path
):
  _, _, *arguments = toy_hosts.rl(
    base, tmp_path, f'save_every={every}', 'steps=9'
  )
  with toy_hosts.running(1, ['-c', DEEP, *arguments]) as one:
    toy_hosts.wait_for(lambda: 'deep' in one.said(0))
    one.kill(0, signal.SIGTERM)
    toy_hosts.wait_for(lambda: 'told to end' in one.said(0))
    if ended:
      assert one.wait(10) == [75]
      assert toy_hosts.saved(tmp_path) == 2
    else:
      with pytest.raises(subprocess.TimeoutExpired):
        one.wait(5)
