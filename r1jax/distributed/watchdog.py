"""A thread beside the run. It notes that the run was told to end, and ends the
process at the second signal, when nothing goes on, or when another host fails.
"""

import contextlib
import faulthandler
import json
import os
import pathlib
import select
import signal
import sys
import threading
import time

from r1jax import errors

STUCK = 70  # the exit code
TERMINATED = 75  # that of a run which was told to end
LINGER = 10.0  # seconds in which the other hosts hear why the run ends


class Watchdog(threading.Thread):
  """Every `beat` of the main thread is a sign of life.

  Without one for `stuck` seconds (0: never mind) the process ends. Where there
  are several hosts, `service` is the key-value store that they share: each
  writes down there how far it is, and why it ended.
  """

  def __init__(self, workdir, stuck=0.0, host=0, hosts=1, service=None):
    super().__init__(daemon=True, name='watch')
    self.workdir, self.stuck = pathlib.Path(workdir), stuck
    self.host, self.hosts, self.service = host, hosts, service
    self.told = self.signalled = self.done = False
    self.kept = None  # see exit_early_if
    self.ticks, self.last = 0, time.monotonic()
    self.signals, self.wake = os.pipe()

  def beat(self):
    self.ticks, self.last = self.ticks + 1, time.monotonic()

  def run(self):
    while not self.done:
      # The main thread may be deep in a device program, where Python's own
      # handlers wait: the numbers of signals come through a pipe.
      if select.select([self.signals], [], [], 1.0)[0]:
        for number in os.read(self.signals, 64):
          self._hear(number)
      if self.stuck and time.monotonic() - self.last > self.stuck:
        self._give_up()
      kept = self.kept
      if self.told and kept and kept():
        print_error(errors.Terminated())
        self.fail(TERMINATED, str(errors.Terminated()))
      if self.service and not self.done:
        self._look_around()

  def fail(self, code, sentence):
    """Ends this process and, with the same code and words, the other hosts."""
    self.done = True
    self._put('ended', json.dumps([code, sentence]))
    self._leave(code)

  def _hear(self, number):
    if number not in (signal.SIGTERM, signal.SIGINT):
      return
    if self.signalled:
      os._exit(128 + number)
    self.signalled = True
    if number == signal.SIGTERM:
      self.told = True
      print_error(
        'told to end: a checkpoint is written at the end of what the devices '
        'now do, if there is none of it; a second signal ends the run at once'
      )

  def _give_up(self):
    print_error(
      f'nothing has gone on for {self.stuck:g} seconds; {self._behind()}'
    )
    faulthandler.dump_traceback(2)
    with contextlib.suppress(OSError):  # The disk may be what is stuck.
      self.workdir.mkdir(parents=True, exist_ok=True)
      with open(self.workdir / f'stacks-{self.host}.txt', 'w') as file:
        faulthandler.dump_traceback(file)
    os._exit(STUCK)

  def _behind(self):
    """Which hosts have not come as far as the others."""
    ticks = self._all('ticks')
    ticks = {host: int(n) for host, n in ticks.items()} | {
      self.host: self.ticks
    }
    last = {host: n for host, n in ticks.items() if n < max(ticks.values())}
    if not last:
      return f'host {self.host} and all others are at tick {self.ticks}'
    shown = ', '.join(f'host {host} at {n}' for host, n in sorted(last.items()))
    return f'of {max(ticks.values())} ticks, behind: {shown}'

  def _look_around(self):
    self._put('ticks', str(self.ticks))
    ended = self._all('ended')
    if ended and not self.done:
      host = min(ended)
      code, sentence = json.loads(ended[host])
      print_error(f'host {host}: {sentence}')
      self._leave(code)

  def _leave(self, code):
    # What the others read lies with host 0, which therefore goes last.
    self._put('heard', '')
    end = time.monotonic() + LINGER
    while not self.host and self.service and time.monotonic() < end:
      if len(self._all('heard')) == self.hosts:
        break
      time.sleep(0.05)
    with contextlib.suppress(OSError):
      sys.stdout.flush()
      sys.stderr.flush()
    os._exit(code)

  def _put(self, what, text):
    with _unless_gone():
      self.service.key_value_set(f'r1jax/{what}/{self.host}', text, True)

  def _all(self, what):
    with _unless_gone():
      pairs = self.service.key_value_dir_get(f'r1jax/{what}/')
      return {int(key.rpartition('/')[2]): text for key, text in pairs}
    return {}


_watch = None  # Signals are a process's, so there is one.


@contextlib.contextmanager
def watching(watch):
  """The watch runs meanwhile, and SIGTERM no longer ends the process."""
  global _watch
  os.set_blocking(watch.wake, False)
  handler = signal.signal(signal.SIGTERM, lambda *_: None)
  wake = signal.set_wakeup_fd(watch.wake, warn_on_full_buffer=False)
  _watch = watch
  watch.start()
  try:
    yield
  finally:
    _watch = None
    watch.done = True
    os.write(watch.wake, b'\0')
    watch.join()
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, handler)
    os.close(watch.signals)
    os.close(watch.wake)


def heartbeat():
  """Tells the watch, if there is one, that the run goes on."""
  if _watch:
    _watch.beat()


@contextlib.contextmanager
def exit_early_if(kept):
  """A run that is told to end does so meanwhile, wherever it is, once kept()
  says that what it would go on from is on disk; the watch's thread calls it."""
  if _watch:
    _watch.kept = kept
  try:
    yield
  finally:
    if _watch:
      _watch.kept = None


def terminate_requested():
  """Whether this process was told to end."""
  return _watch is not None and _watch.told


@contextlib.contextmanager
def _unless_gone():
  try:
    yield
  # Of any kind: the service ends with host 0, and then the heartbeat ends us.
  except Exception:
    pass


def print_error(sentence):
  """A line for the log, which may lie on a disk that is full."""
  with contextlib.suppress(OSError):
    print(f'r1jax: {sentence}', file=sys.stderr, flush=True)
