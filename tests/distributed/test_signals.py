"""A request to end is never lost, and several are one."""

import gc
import os
import signal
import time

import pytest
import toy_hosts

from r1jax import errors
from r1jax.distributed import hosts, signals, watchdog

# As code that is imported may do, and as a callback of the garbage collector
# does with an exception.
SWALLOWS = """
import os, signal, time
try:
  os.kill(os.getpid(), signal.{name})
  time.sleep({seconds})
except BaseException:
  pass
print('went on', flush=True)
"""


@pytest.mark.parametrize(
  'name, code, sentence',
  [
    ('SIGINT', 130, 'r1jax: interrupted\n'),
    ('SIGTERM', 75, 'r1jax: terminated by SIGTERM\n'),
    ('SIGHUP', 75, 'r1jax: terminated by SIGHUP\n'),
  ],
)
def test_a_signal_before_the_run_ends_it_whatever_swallows_exceptions(
  tmp_path, name, code, sentence
):
  config = tmp_path / 'config.py'
  config.write_text(SWALLOWS.format(name=name, seconds=999))
  command = ['-m', 'r1jax', 'sft', '--config', config, '--workdir', tmp_path]
  with toy_hosts.running(1, command) as process:
    assert process.wait() == [code]
    assert sentence in process.output(0)
    assert 'Traceback' not in process.output(0)


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_ctrl_c_in_a_callback_of_the_garbage_collector_ends_the_run(tmp_path):
  def callback(phase, info):
    if not sent and phase == 'start':
      sent.append(1)
      os.kill(os.getpid(), signal.SIGINT)

  sent, guard = [], watchdog.Watchdog(tmp_path, 0)
  gc.callbacks.append(callback)
  try:
    with watchdog.watching(guard):
      gc.collect()
      assert sent
      with pytest.raises(KeyboardInterrupt):
        hosts.terminate_requested()
  finally:
    gc.callbacks.remove(callback)


def test_the_handlers_of_before_are_restored(tmp_path):
  before = [signal.getsignal(number) for number in signals.REQUESTS]
  for context in (signals.raised(), signals.ending_at_once()):
    with context:
      assert [signal.getsignal(x) for x in signals.REQUESTS] != before
    assert [signal.getsignal(x) for x in signals.REQUESTS] == before
  assert signal.set_wakeup_fd(-1) == -1


# A config file of no stage, after which the exit takes a while, as jax's does.
EXITS = """
import atexit, os, signal, time
def send():
  for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT) * 3:
    os.kill(os.getpid(), number)
    time.sleep(0.05)
  print('the exit goes on', flush=True)
atexit.register(send)
def get_config():
  {body}
"""


@pytest.mark.parametrize(
  'body, code',
  [('return 3', 2), ('os.kill(os.getpid(), signal.SIGTERM)', 75)],
)
def test_requests_during_the_exit_of_a_command_change_no_code(
  tmp_path, body, code
):
  config = tmp_path / 'config.py'
  config.write_text(EXITS.format(body=body))
  command = ['-m', 'r1jax', 'sft', '--config', config, '--workdir', tmp_path]
  with toy_hosts.running(1, command) as process:
    assert process.wait() == [code]
    assert code == 75 or 'the exit goes on' in process.output(0)
    assert 'Traceback' not in process.output(0)


def test_requests_after_the_end_of_a_stage_are_ignored_in_a_command_alone():
  before = [signal.getsignal(number) for number in signals.REQUESTS]
  received = []
  with signals.received(received.append):
    signals.ignore_at_end()
    assert signal.SIG_IGN not in map(signal.getsignal, signals.REQUESTS)
  try:
    with signals.ending_at_once():
      with signals.received(received.append):
        signals.ignore_at_end()
        for number in signals.REQUESTS:
          os.kill(os.getpid(), number)
      for number in signals.REQUESTS:
        os.kill(os.getpid(), number)
    for number in signals.REQUESTS:
      os.kill(os.getpid(), number)
    assert not received
  finally:
    for number, handler in zip(signals.REQUESTS, before):
      signal.signal(number, handler)


def test_a_signal_that_is_ignored_remains_so(tmp_path):
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with signals.raised():
      os.kill(os.getpid(), signal.SIGHUP)
    with signals.raised(), pytest.raises(errors.Terminated):
      signal.raise_signal(signal.SIGTERM)
    guard = watchdog.Watchdog(tmp_path, 0)
    with watchdog.watching(guard):
      os.kill(os.getpid(), signal.SIGHUP)
    assert not guard.terminate_requested
  finally:
    signal.signal(signal.SIGHUP, before)


def test_a_handler_of_the_users_own_is_kept():
  received = []
  before = signal.signal(signal.SIGINT, lambda *_: received.append(1))
  try:
    with signals.raised():
      os.kill(os.getpid(), signal.SIGINT)
    assert received
  finally:
    signal.signal(signal.SIGINT, before)


def test_a_signal_is_another_request_after_the_grace_period(monkeypatch):
  requests = signals.Requests()
  order = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
  assert [requests.add(x) for x in order] == ['first', 'same', 'same']
  now = time.monotonic()
  monkeypatch.setattr(time, 'monotonic', lambda: now + 3)
  assert [requests.add(x) for x in order] == ['same', 'again', 'same']
  monkeypatch.setattr(time, 'monotonic', lambda: now + 31)
  assert requests.add(signal.SIGTERM) == 'again'
