"""Processes for trusted code that reads untrusted text: each does one job at a
time and is ended when that takes too long or too much, so that a hostile text
costs its own job only.

`python -m r1jax.sandbox.workers` is such a process: a line of JSON in, two lines out,
one when the code is loaded and one with what it said. Nothing is unpickled.
"""

import collections
import contextlib
import fcntl
import importlib
import json
import os
import queue
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

MOST = 64 << 20  # bytes of a job, and of an answer
LOADING = 60.0  # seconds in which the code of a job must be imported
GRACE = 1.0  # seconds of wall time beyond four times the CPU seconds
TICK = 0.02  # seconds between two looks at a worker's CPU time
KEPT = 'PATH', 'LANG', 'LC_ALL', 'HOME', 'TMPDIR', 'LD_LIBRARY_PATH'
KILLED = -signal.SIGKILL, -signal.SIGTERM
TICKS = os.sysconf('SC_CLK_TCK')
LINUX = sys.platform == 'linux'


class Answer(NamedTuple):
  """What a function said, or why it said nothing: 'timeout', 'memory',
  'crashed', 'died' (killed from outside, twice), 'input' or 'output' (too many
  bytes), 'error: …' (what it raised, or why it could not be begun)."""

  value: object
  failure: str


class Pool:
  """`count` workers, each with so many CPU seconds a job and bytes of memory,
  started when they are needed. Any number of threads may ask at once."""

  def __init__(self, count, seconds, memory):
    self.count, self.seconds, self.memory = count, seconds, memory
    self.counts = collections.Counter()
    self.idle, self.closing = queue.LifoQueue(), threading.Lock()
    for _ in range(count):
      self.idle.put(None)

  def map(self, function, jobs):
    """An Answer of 'module:name'(*job) for each job, in order; jobs and values
    are plain JSON."""

    def ask(job):
      return self._one(function, job)

    if len(jobs) < 2:
      return [ask(job) for job in jobs]
    with ThreadPoolExecutor(min(self.count, len(jobs))) as threads:
      return list(threads.map(ask, jobs))

  def close(self):
    """Ends all workers; the pool may be used again."""
    with self.closing:  # Two that each hold some would wait for ever.
      workers = [self.idle.get() for _ in range(self.count)]
    for worker in workers:
      if worker:
        worker.end()
      self.idle.put(None)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def _one(self, function, job):
    line = json.dumps([function, job]).encode() + b'\n'
    if len(line) > MOST:
      self.counts['input'] += 1
      return Answer(None, 'input')
    worker = self.idle.get()
    try:
      answer = None
      for _ in range(2):
        if not worker:
          worker = Worker(self.memory)
        answer = worker.ask(line, self.seconds)
        worker = worker if worker.process.poll() is None else None
        if answer.failure != 'died':
          break
      self.counts[answer.failure.partition(':')[0]] += 1
      return answer
    except BaseException:
      if worker:
        worker.end()
      worker = None
      raise
    finally:
      self.idle.put(worker)


class Worker:
  """A process of its own session, which ends when this one does."""

  def __init__(self, memory):
    alive, self.lifeline = os.pipe()
    environment = {
      name: os.environ[name] for name in KEPT if name in os.environ
    }
    self.process = subprocess.Popen(
      [sys.executable, '-m', 'r1jax.sandbox.workers', str(memory), str(alive)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      bufsize=0,
      pass_fds=[alive],
      start_new_session=True,
      env=environment
      | dict(
        PYTHONPATH=os.pathsep.join(x for x in sys.path if x),
        # A thread pool of a numeric library takes address space.
        OPENBLAS_NUM_THREADS='1',
        OMP_NUM_THREADS='1',
        PYTHONHASHSEED='0',  # The order of sets must not change a verdict.
      ),
    )
    os.close(alive)
    os.set_blocking(self.process.stdin.fileno(), False)
    self.unread = bytearray()

  def ask(self, line, seconds):
    """The Answer to a request; afterwards the process may have been ended."""
    wall = 4 * seconds + GRACE
    loaded = False
    try:
      self._write(line, time.monotonic() + LOADING)
      loaded = bool(self._line(time.monotonic() + LOADING, None))
      most = self._used() + seconds
      kind, value = json.loads(self._line(time.monotonic() + wall, most))
    except _Ended as ended:
      self.end()
      failure = ended.args[0]
      if not loaded and failure != 'died':  # The job is not to blame.
        failure = f'error: a worker could not begin ({failure})'
      return Answer(None, failure)
    if kind == 'memory':  # What is left of the job might fail the next one.
      self.end()
    return Answer(value, '') if kind == 'value' else Answer(None, kind)

  def end(self):
    """Kills the process and what it has started, and waits for it."""
    # Its own session: the group still has its number while it is not waited for.
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.process.pid, signal.SIGKILL)
    self.process.wait()
    for stream in (self.process.stdin, self.process.stdout):
      stream.close()
    if self.lifeline is not None:
      os.close(self.lifeline)
      self.lifeline = None

  def _write(self, data, deadline):
    pipe, data = self.process.stdin.fileno(), memoryview(data)
    while data:
      left = deadline - time.monotonic()
      if left <= 0 or not _ready(pipe, select.POLLOUT, left):
        raise _Ended('timeout')
      try:
        data = data[os.write(pipe, data) :]
      except BrokenPipeError:
        raise self._gone() from None

  def _line(self, deadline, most):
    """The next line; not after the deadline or `most` CPU seconds."""
    pipe, end = self.process.stdout.fileno(), self.unread.find(b'\n')
    while end < 0:
      if len(self.unread) > MOST:
        raise _Ended('output')
      left = deadline - time.monotonic()
      if left <= 0 or most is not None and self._used() >= most:
        raise _Ended('timeout')
      if _ready(pipe, select.POLLIN, min(left, TICK)):
        data = os.read(pipe, 1 << 16)
        if not data:
          raise self._gone()
        if b'\n' in data:
          end = len(self.unread) + data.index(b'\n')
        self.unread += data
    line = bytes(self.unread[:end])
    del self.unread[: end + 1]
    return line

  def _used(self):
    """CPU seconds of the process so far; 0 where the system does not say."""
    try:
      with open(f'/proc/{self.process.pid}/stat', 'rb') as file:
        fields = file.read().rpartition(b')')[2].split()
    except OSError:
      return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS

  def _gone(self):
    try:
      code = self.process.wait(GRACE)
    except subprocess.TimeoutExpired:  # It has only closed its output.
      return _Ended('crashed')
    return _Ended('died' if code in KILLED else 'crashed')


def _ready(pipe, event, seconds):
  """Whether something can be done with a pipe within so many seconds."""
  poll = select.poll()  # select knows no file beyond the 1024th
  poll.register(pipe, event)
  return bool(poll.poll(seconds * 1000))


class _Ended(Exception):
  """Why there is no answer."""


def main(memory, alive):
  """Serves one request after another until stdin ends."""
  # Whatever the code prints must not come between the answers.
  answers = os.fdopen(os.dup(1), 'wb', buffering=0)
  os.dup2(2, 1)
  _end_with_parent(int(alive))
  if LINUX:  # Elsewhere address space is not counted so.
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = int(memory) if hard < 0 else min(int(memory), hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  for line in sys.stdin.buffer:
    name, job = json.loads(line)
    try:
      module, _, name = name.partition(':')
      function = getattr(importlib.import_module(module), name)
    except Exception as error:
      answers.write(b'loaded\n' + _problem(error) + b'\n')
      continue
    answers.write(b'loaded\n')
    answers.write(_said(function, job) + b'\n')


def _problem(error):
  said = f'error: {type(error).__name__}: {str(error)[:500]}'
  return json.dumps([said, None]).encode()


def _said(function, job):
  try:
    data = json.dumps(['value', function(*job)]).encode()
  except MemoryError:
    return b'["memory", null]'
  except Exception as error:
    return _problem(error)
  return data if len(data) <= MOST else b'["output", null]'


def _end_with_parent(alive):
  """Kills this group as soon as the other end of the pipe is closed, though
  this process be in the middle of a computation."""
  if not LINUX:  # A thread must do, which needs the interpreter's lock.
    threading.Thread(target=_wait_and_kill, args=(alive,), daemon=True).start()
    return
  fcntl.fcntl(alive, fcntl.F_SETOWN, -os.getpgrp())
  fcntl.fcntl(alive, fcntl.F_SETSIG, signal.SIGKILL)
  flags = fcntl.fcntl(alive, fcntl.F_GETFL)
  fcntl.fcntl(alive, fcntl.F_SETFL, flags | os.O_ASYNC)
  if _ready(alive, select.POLLIN, 0):
    os._exit(1)


def _wait_and_kill(alive):
  os.read(alive, 1)
  os.killpg(0, signal.SIGKILL)


if __name__ == '__main__':
  main(*sys.argv[1:])
