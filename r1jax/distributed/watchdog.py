"""A thread that ends the process if the run stops progressing, another host
fails, or a signal asks for it (see signals.py)."""

import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from r1jax import errors
from r1jax.distributed import signals

LEAVE_SECONDS = 10.0  # host 0 waits at most this long for the others to exit

# Files of jax in which programs are traced, lowered and compiled.
COMPILER = tuple(
  os.path.join('jax', '_src', *x)
  for x in [
    ('interpreters', 'partial_eval.py'),
    ('interpreters', 'mlir.py'),
    ('compiler.py',),
  ]
)
# A pause of up to 4 times the longest pause so far is not a hang.
OBSERVED = 4.0
# A call of the user's code may take 4 hours, unless R1JAX_STUCK says otherwise.
CALL_SECONDS = 4 * 3600.0
# Seconds of a longer tick, as of a suspended machine, that count.
MAX_TICK = 5.0
# A process without heartbeats works if jax compiles in it and it uses 20% of a
# CPU, or if it reads or writes 1 MiB of files in a second.
WORKING_SHARE = 0.2
WORKING_BYTES = 1 << 20


class Watchdog(threading.Thread):
  """Ends the process with errors.STUCK if there is no progress, and at a signal
  after the grace period of the first.

  Progress is a heartbeat of any host: the others wait for one that is slow. A
  host that compiles, reads or writes files, or is `expected` to be slow has a
  heartbeat too. The limit is `stuck` seconds (0: none), or OBSERVED times the
  longest pause between two heartbeats so far, whichever is longer.

  Hosts share the key-value `store`, in which each writes its heartbeats and the
  error that ended it.
  """

  def __init__(
    self, workdir: Path, stuck: float, host: int = 0, hosts: int = 1, store=None
  ):
    super().__init__(daemon=True, name='watchdog')
    self.workdir, self.stuck, self.store = workdir, stuck, store
    self.host, self.hosts = host, hosts
    self.terminate_requested = self.interrupted = self.done = False
    self.requests, self.wake = signals.Requests(), threading.Event()
    self.may_exit: Callable[[], bool] | None = None  # see exit_early_if
    self.heartbeats = 0
    self.expected_until: dict[object, float] = {}  # one for each `expected`
    self.call_seconds = CALL_SECONDS
    self.idle = self.longest = 0.0  # seconds without progress; the most so far
    self.seen: tuple[int, dict[int, str]] = 0, {}  # heartbeats at the last look
    self.work = _work()

  def run(self) -> None:
    before = time.monotonic()
    while not self.done:
      self.wake.wait(1.0)
      now = time.monotonic()
      self._look(now - before)
      before = now
      may_exit = self.may_exit
      if self.terminate_requested and may_exit and may_exit():
        print_error(errors.Terminated())
        self.fail(errors.TERMINATED, str(errors.Terminated()))
      if self.store and not self.done:
        self._write('heartbeats', str(self.heartbeats))
        self.follow()

  def _look(self, seconds):
    """Ends the process if it is stuck, `seconds` after the last look."""
    work, before = _work(), self.work
    self.work = work
    compiles = work.cpu - before.cpu > WORKING_SHARE * seconds
    compiles = compiles and _is_compiling()
    moves_files = work.bytes - before.bytes > WORKING_BYTES * seconds
    expected_until = max(list(self.expected_until.values()), default=0.0)
    if compiles or moves_files or time.monotonic() < expected_until:
      self.heartbeats += 1
    own, others = self.seen
    if self.heartbeats != own:
      self.longest, self.idle = max(self.longest, self.idle), 0.0
    elif self.idle > self.stuck / 2:
      others = self._read('heartbeats')
      others.pop(self.host, None)  # What was written may be old.
    if self.seen[1] and others != self.seen[1]:
      self.idle = 0.0
    self.seen = self.heartbeats, others
    self.idle += min(seconds, MAX_TICK)
    limit = max(self.stuck, OBSERVED * self.longest)
    if self.stuck and self.idle > limit:
      self._exit_stuck()

  def fail(self, code: int, sentence: str) -> None:
    """Ends this process and the other hosts with the same code and sentence."""
    self.done = True
    self._write('error', json.dumps([code, sentence]))
    self._exit(code)

  def receive(self, number: int) -> None:
    """Handles a signal, in the thread of signals.py."""
    if number == signal.SIGINT and signals.in_notebook():
      return  # KeyboardInterrupt ends the cell alone.
    request = self.requests.add(number)
    if request == 'again':
      os._exit(128 + number)
    if request == 'first' and number != signal.SIGINT:
      self.terminate_requested = True
      grace, ctrl_c = (
        signals.GRACE[signal.SIGTERM],
        signals.GRACE[signal.SIGINT],
      )
      print_error(
        f'received {signal.Signals(number).name}: the run ends after the '
        'current device program and its checkpoint; a second signal after '
        f'{grace:g} s, or Ctrl-C after {ctrl_c:g} s, ends it at once'
      )

  def interrupt(self, number: int, frame: FrameType | None) -> None:
    """Handles SIGINT in the main thread."""
    if not self.interrupted and not self.terminate_requested:
      self.interrupted = True
      raise KeyboardInterrupt

  def _exit_stuck(self):
    stacks = self.workdir / f'stacks-{self.host}.txt'
    print_error(
      f'no progress for {self.idle:.0f} seconds, so the run ends'
      f'{self._hosts_behind()}. The stacks of its threads follow and are in '
      f'{stacks}; the same command resumes the run'
    )
    faulthandler.dump_traceback(2)
    with contextlib.suppress(OSError):  # The disk may be what is stuck.
      self.workdir.mkdir(parents=True, exist_ok=True)
      with open(stacks, 'w') as file:
        faulthandler.dump_traceback(file)
    os._exit(errors.STUCK)

  def _hosts_behind(self):
    """What is said of hosts with fewer heartbeats than others; '' if none."""
    heartbeats = {host: int(n) for host, n in self._read('heartbeats').items()}
    heartbeats[self.host] = self.heartbeats
    most = max(heartbeats.values())
    slow = [
      f'host {host} at {n}'
      for host, n in sorted(heartbeats.items())
      if n < most
    ]
    return f'; behind heartbeat {most}: {", ".join(slow)}' if slow else ''

  def follow(self) -> None:
    """Ends this process as a host did that has failed before. An error here is
    then a consequence: collectives fail when processes leave."""
    ended = self._read('error')
    if ended and not self.done:
      host = min(ended)
      code, sentence = json.loads(ended[host])
      print_error(f'host {host}: {sentence}')
      self._exit(code)

  def _exit(self, code):
    self._write('leaving', '')
    end = time.monotonic() + LEAVE_SECONDS
    if self.store and self.host == 0:  # It serves the store, so it leaves last.
      while len(self._read('leaving')) < self.hosts and time.monotonic() < end:
        time.sleep(0.05)
    with contextlib.suppress(OSError):
      print(end='', flush=True)  # stdout is None in some daemons.
      print(end='', file=sys.stderr, flush=True)
    os._exit(code)

  # The store disappears with host 0; its calls then raise various exceptions,
  # and jax's own heartbeat ends this process.

  def _write(self, name, text):
    if self.store:
      with contextlib.suppress(Exception):
        self.store.key_value_set(f'r1jax/{name}/{self.host}', text, True)

  def _read(self, name):
    """{host: text} of what the hosts have written."""
    pairs = []
    if self.store:
      with contextlib.suppress(Exception):
        pairs = self.store.key_value_dir_get(f'r1jax/{name}/')
    return {int(key.rpartition('/')[2]): text for key, text in pairs}


class _Work(NamedTuple):
  cpu: float  # seconds of this process
  bytes: int  # read from and written to files


def _work():
  moved = 0
  with contextlib.suppress(OSError):  # on systems without /proc
    fields = Path('/proc/self/io').read_text().split()
    moved = int(fields[1]) + int(fields[3])  # rchar, wchar
  return _Work(time.process_time(), moved)


def _is_compiling():
  """Whether a thread of this process traces or compiles a program of jax."""
  for frame in sys._current_frames().values():
    stack: FrameType | None = frame
    while stack:
      if stack.f_code.co_filename.endswith(COMPILER):
        return True
      stack = stack.f_back
  return False


_active: Watchdog | None = None  # Signals belong to the process: one at most.


@contextlib.contextmanager
def watching(watchdog: Watchdog) -> Iterator[None]:
  """Runs the watchdog. SIGTERM and SIGHUP set terminate_requested meanwhile."""
  global _active
  with signals.received(watchdog.receive, watchdog.interrupt):
    _active = watchdog
    watchdog.start()
    try:
      yield
    finally:
      _active = None
      watchdog.done = True
      watchdog.wake.set()
      watchdog.join()


def heartbeat() -> None:
  """Notes that the run makes progress. Does nothing without a watchdog."""
  if _active:
    _active.heartbeats += 1


@contextlib.contextmanager
def expected(seconds: float) -> Iterator[None]:
  """Within this context a run without heartbeats is not stuck, for `seconds` at
  most. For calls that cannot have heartbeats. Thread-safe."""
  guard, key = _active, object()
  if guard:
    guard.expected_until[key] = time.monotonic() + seconds
  try:
    yield
  finally:
    if guard:
      del guard.expected_until[key]


def calling_user_code() -> contextlib.AbstractContextManager[None]:
  """The context of a call of the user's code that has no limit of its own. It
  may take CALL_SECONDS, or R1JAX_STUCK if that is set."""
  return expected(_active.call_seconds if _active else 0.0)


@contextlib.contextmanager
def exit_early_if(is_saved: Callable[[], bool]) -> Iterator[None]:
  """Within this context SIGTERM ends the process at once, even inside a device
  program, if is_saved() is true. The watchdog's thread calls is_saved."""
  if _active:
    _active.may_exit = is_saved
  try:
    yield
  finally:
    if _active:
      _active.may_exit = None


def terminate_requested() -> bool:
  """Whether this process has received SIGTERM or SIGHUP. Raises
  KeyboardInterrupt if it was raised before and a callback has swallowed it."""
  if _active is None:
    return False
  if _active.interrupted:
    raise KeyboardInterrupt
  return _active.terminate_requested


def print_error(sentence: object) -> None:
  """Prints a sentence to stderr, which may be a file on a full disk. Texts in it
  cannot control a terminal, nor look like another message."""
  text = errors.printable(sentence, lines=True).replace('\n', '\n  ')
  with contextlib.suppress(OSError):
    print(f'r1jax: {text}', file=sys.stderr, flush=True)
