"""A sandboxed process: how it is talked to within bounds of time and bytes, and
ended with everything that it began."""

import contextlib
import math
import os
import select
import signal
import subprocess
import time

from r1jax.sandbox import inside, launch, outcome
from r1jax.sandbox.outcome import Outcome, Stopped

CHUNK = 1 << 16
TOLD = 2000  # bytes of a program's stderr that are kept
KILLED_WAIT = 5.0  # seconds in which the kernel must end what was killed


class Process:
  """One run of Python in the sandbox; `with` ends it, whatever happened.

  Its wall clock runs only while somebody waits for it: 3 x seconds + 1 in all.
  """

  def __init__(self, tier, code, limits, serve, stdin=b''):
    self.tier, self.limits = tier, limits
    self.left = 3 * limits.seconds + 1
    self.todo = memoryview(launch.payload(tier, code, limits, serve) + stdin)
    self.got, self.told, self.is_ready = b'', b'', False
    self.began, self.status = time.monotonic(), None
    try:
      self.child = subprocess.Popen(
        launch.command(tier),
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd='/',
        env=launch.ENVIRONMENT,
        start_new_session=True,
      )
    except OSError as error:
      raise Stopped('infra', f'cannot start {tier.name}: {error}') from error
    os.set_blocking(self.child.stdin.fileno(), False)
    self.open = {self.child.stdout: 'got', self.child.stderr: 'told'}

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.end()

  def load(self):
    """Waits until the functions are there; Stopped if they will not be."""
    with self._ended_if_stopped():
      if (reply := self._reply()) != ('loaded', ''):
        raise outcome.stopped(reply)

  def ask(self, line):
    """The reply to a line; Stopped, and gone, where there is none."""
    with self._ended_if_stopped():
      for stream in ready(self.open, [], 0)[0]:
        self._read(stream)
      if self.got:
        raise Stopped('error', 'it answered before it was asked')
      self.todo = memoryview(line)
      return self._reply()

  def _reply(self):
    self.pump(done=lambda: b'\n' in self.got)
    line, found, self.got = self.got.partition(b'\n')
    if found:
      return outcome.read(line)
    self.wait()
    self.end()
    kind, detail = self.ending()
    raise Stopped('error' if kind == 'passed' else kind, detail)

  @contextlib.contextmanager
  def _ended_if_stopped(self):
    try:
      yield
    except Stopped:
      self.end()
      raise

  def pump(self, done, close_stdin=False):
    """Moves bytes until done() or nobody speaks any more; Stopped when the time
    or the bytes that it may have are used up."""
    began = time.monotonic()
    try:
      while self.open and not done():
        left = self.left - (time.monotonic() - began)
        if left <= 0:
          raise self._too_long()
        stdin = self.child.stdin
        if close_stdin and not self.todo and not stdin.closed:
          stdin.close()
        writers = [stdin] if self.todo and not stdin.closed else []
        readers, writers = ready(self.open, writers, left)
        if writers:
          self._write()
        for stream in readers:
          self._read(stream)
    finally:
      self.left -= time.monotonic() - began

  def _write(self):
    try:
      written = os.write(self.child.stdin.fileno(), self.todo[:CHUNK])
      self.todo = self.todo[written:]
    except BlockingIOError:
      pass
    except BrokenPipeError:
      self.child.stdin.close()
      self.todo = self.todo[:0]

  def _read(self, stream):
    data = os.read(stream.fileno(), CHUNK)
    if not data:
      self.open.pop(stream)
      return
    if self.open[stream] == 'got':
      self.got += data
      if len(self.got) > self.limits.output:
        raise Stopped('output', f'more than {self.limits.output} bytes')
      return
    self.told += data
    if not self.is_ready:
      before, found, after = self.told.partition(inside.READY)
      self.is_ready, self.told = bool(found), after if found else before
    self.told = self.told[-TOLD:]

  def wait(self):
    """Until it has ended by itself; Stopped when it takes too long."""
    if not self._ended_within(self.left):
      raise self._too_long()

  def _too_long(self):
    kind = 'timeout' if self.is_ready else 'infra'
    return Stopped(kind, 'it took too long by the clock')

  def _ended_within(self, seconds):
    deadline, pause = time.monotonic() + seconds, 0.0002
    while not os.waitid(
      os.P_PID, self.child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG
    ):
      if time.monotonic() > deadline:
        return False
      time.sleep(pause)
      pause = min(2 * pause, 0.02)
    return True

  def _end_within(self):
    """Kills bubblewrap's child, with which its whole namespace ends, so that
    bubblewrap can still reap it: in a container nobody else might."""
    pid = self.child.pid
    with contextlib.suppress(OSError):
      with open(f'/proc/{pid}/task/{pid}/children') as file:
        children = [int(x) for x in file.read().split()]
      for child in children:
        os.kill(child, signal.SIGKILL)
      self._ended_within(KILLED_WAIT if children else 0)

  def end(self):
    """Kills all that is left of it, and waits until nothing is."""
    if self.status is not None:
      return
    if self.tier.name == 'bwrap':
      self._end_within()
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.child.pid, signal.SIGKILL)
    _, status = os.waitpid(self.child.pid, 0)
    self.lived = time.monotonic() - self.began
    self.status = self.child.returncode = os.waitstatus_to_exitcode(status)
    # Every process of the sandbox holds these pipes: their end is its end.
    deadline = time.monotonic() + KILLED_WAIT
    while self.open and time.monotonic() < deadline:
      for stream in ready(self.open, [], KILLED_WAIT)[0]:
        if not os.read(stream.fileno(), CHUNK):
          self.open.pop(stream)
    for stream in (self.child.stdin, self.child.stdout, self.child.stderr):
      stream.close()

  def ending(self):
    """(kind, detail) of a process that has ended by itself."""
    told = self.told.decode('utf-8', 'replace').strip()
    if not self.is_ready:
      return 'infra', f'{self.tier.name} did not start: {told[-500:]}'
    # The kernel kills what has used its seconds; nobody else here does.
    if self.status in (-signal.SIGKILL, 128 + signal.SIGKILL):
      seconds = math.ceil(self.limits.seconds)
      if self.lived > seconds - 0.1:
        return 'timeout', f'more than {seconds} seconds of CPU time'
      if self.status < 0:
        return 'infra', 'it was killed from outside'
    kinds = {0: 'passed', inside.COMPILE: 'compile', inside.MEMORY: 'memory'}
    return kinds.get(self.status, 'error'), told or f'exit code {self.status}'


def ready(readers, writers, seconds):
  """(readers, writers) that need not wait, as `select` has it, but for files of
  any number."""
  poll = select.poll()
  for stream in readers:
    poll.register(stream, select.POLLIN)
  for stream in writers:
    poll.register(stream, select.POLLOUT)
  found = {fd for fd, _ in poll.poll(max(0, seconds) * 1000)}
  return (
    [x for x in readers if x.fileno() in found],
    [x for x in writers if x.fileno() in found],
  )


def run(tier, code, stdin, limits):
  """The Outcome of a program that reads stdin and writes stdout."""
  try:
    with Process(tier, code, limits, serve=False, stdin=stdin) as process:
      process.pump(done=lambda: False, close_stdin=True)
      process.wait()
  except Stopped as stopped:
    return Outcome(stopped.kind, b'', stopped.detail)
  kind, detail = process.ending()
  return Outcome(kind, process.got, '' if kind == 'passed' else detail)
