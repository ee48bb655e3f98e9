"""Worker processes for trusted code that reads untrusted text.

Each worker runs one job at a time and is killed when the job exceeds its
limits, so a hostile text affects only its own job. Jobs and results are JSON;
nothing is unpickled. `python -m r1jax.sandbox.workers` is a worker.
"""

import collections
import contextlib
import fcntl
import json
import math
import os
import pkgutil
import queue
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import NamedTuple

MAX_BYTES = 64 << 20  # of a job, and of a result
IMPORT_SECONDS = 300.0  # in which the function of a job must be imported
GRACE = 1.0  # seconds of wall time beyond four times the CPU seconds
KILL_SECONDS = 30.0  # in which the kernel must end a killed worker
POLL_SECONDS = 0.02  # between two looks at a worker's CPU time
ENVIRONMENT = 'PATH', 'LANG', 'LC_ALL', 'HOME', 'TMPDIR', 'LD_LIBRARY_PATH'
# Threads of numeric libraries take address space. The order of sets must not
# change a verdict.
FIXED = dict(OPENBLAS_NUM_THREADS='1', OMP_NUM_THREADS='1', PYTHONHASHSEED='0')
KILLED = -signal.SIGKILL, -signal.SIGTERM
TICKS = os.sysconf('SC_CLK_TCK')
LINUX = sys.platform == 'linux'


class Result(NamedTuple):
  """The value of a job, or its failure: 'timeout', 'memory', 'crashed', 'died'
  (killed twice by another process), 'input' or 'output' (too many bytes), or
  'error: …' (what the function raised, or why it could not be started)."""

  value: object
  failure: str


class Pool(contextlib.AbstractContextManager):
  """`count` workers, started when they are needed. Thread-safe.

  A job may use `seconds` of CPU time, `wall` seconds of wall time (0: 4 x
  seconds + GRACE) and `memory` bytes. `counts` is the number of jobs by kind of
  failure. A job runs in the context `expected`(the seconds after which it has
  ended in any case).
  """

  def __init__(
    self,
    count: int,
    seconds: float,
    memory: int,
    wall: float = 0.0,
    expected: Callable[
      [float], contextlib.AbstractContextManager
    ] = contextlib.nullcontext,
  ) -> None:
    self.expected = expected
    self.count, self.seconds, self.memory = count, seconds, memory
    self.wall = wall or 4 * seconds + GRACE
    self.counts: collections.Counter[str] = collections.Counter()
    self.idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
    self.closing, self.closings = threading.Lock(), 0
    for _ in range(count):
      self.idle.put(None)

  def map(
    self, function: str, jobs: Sequence[Sequence], prepare: Sequence = ()
  ) -> list[Result]:
    """The results of 'module:function'(*job) for each job, in order. `prepare`
    is a function and its arguments, which a worker calls before each job and
    outside its limits, as it imports the function. Raises CancelledError if the
    pool is closed before the last job has begun."""
    closings = self.closings

    def run(job: Sequence) -> Result:
      return self._run(function, job, list(prepare), closings)

    with ThreadPoolExecutor(self.count) as threads:
      return list(threads.map(run, jobs))

  def close(self) -> None:
    """Ends all workers, after the jobs that they are running. The pool can be
    used again."""
    self.closings += 1
    with self.closing:  # Two calls that each hold some workers would deadlock.
      workers = [self.idle.get() for _ in range(self.count)]
    for worker in workers:
      if worker:
        worker.close()
      self.idle.put(None)

  def __exit__(self, *_: object) -> None:
    self.close()

  def _run(self, function, job, prepare, closings):
    line = json.dumps([function, job, prepare]).encode() + b'\n'
    if len(line) > MAX_BYTES:
      self.counts['input'] += 1
      return Result(None, 'input')
    worker = self.idle.get()
    try:
      if closings != self.closings:
        raise CancelledError('the pool of workers was closed')
      for _ in range(2):  # again if another process kills the worker
        if not worker or worker.lifeline is None:
          worker = _Worker(self.memory)
        with self.expected(2 * IMPORT_SECONDS + self.wall + KILL_SECONDS):
          result = worker.run(line, self.seconds, self.wall)
        if result.failure != 'died':
          break
      self.counts[result.failure.partition(':')[0]] += 1
      return result
    finally:
      self.idle.put(worker)


class _Worker:
  """A worker process in a session of its own, which ends with this process."""

  def __init__(self, memory):
    end, self.lifeline = os.pipe()
    environment = {x: os.environ[x] for x in ENVIRONMENT if x in os.environ}
    environment['PYTHONPATH'] = os.pathsep.join(x for x in sys.path if x)
    settings = dict(stdin=PIPE, stdout=PIPE, stderr=DEVNULL, bufsize=0)
    settings |= dict(env=environment | FIXED, start_new_session=True)
    command = sys.executable, '-m', 'r1jax.sandbox.workers', memory, end
    self.process = Popen(list(map(str, command)), pass_fds=[end], **settings)
    os.close(end)
    os.set_blocking(self.process.stdin.fileno(), False)
    self.unread = bytearray()

  def run(self, line, seconds, wall):
    """The Result of a job. Afterwards the worker may be closed."""
    is_loaded = False
    try:
      self._write(line, time.monotonic() + IMPORT_SECONDS)
      self._read_line(time.monotonic() + IMPORT_SECONDS)
      is_loaded = True
      max_cpu = self._cpu_seconds() + seconds
      deadline = time.monotonic() + wall
      kind, value = json.loads(self._read_line(deadline, max_cpu))
    except BaseException as error:
      self.close()
      if not isinstance(error, _Failed):
        raise
      failure = str(error)
      if not is_loaded and failure != 'died':  # The job is not the cause.
        failure = f'error: a worker could not start ({failure})'
      return Result(None, failure)
    # The memory that it holds could make later jobs fail.
    if kind == 'memory' or self.process.poll() is not None:
      self.close()
    return Result(value, '') if kind == 'value' else Result(None, kind)

  def close(self):
    """Kills the process and what it has started, and waits for it."""
    if self.lifeline is None:
      return
    # The id remains the group's until the process has been waited for.
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutExpired):  # It does not return from a call.
      self.process.wait(KILL_SECONDS)
    for pipe in (self.process.stdin, self.process.stdout):
      pipe.close()
    os.close(self.lifeline)
    self.lifeline = None

  def _write(self, data, deadline):
    pipe, data = self.process.stdin.fileno(), memoryview(data)
    while data:
      seconds = deadline - time.monotonic()
      if seconds <= 0 or not _is_ready(pipe, select.POLLOUT, seconds):
        raise _Failed('timeout')
      try:
        data = data[os.write(pipe, data) :]
      except BrokenPipeError:
        raise self._exit_failure() from None

  def _read_line(self, deadline, max_cpu=math.inf):
    """The next line, if it comes before the deadline and the CPU limit."""
    pipe, end = self.process.stdout.fileno(), self.unread.find(b'\n')
    while end < 0:
      if len(self.unread) > MAX_BYTES:
        raise _Failed('output')
      seconds = deadline - time.monotonic()
      if seconds <= 0 or self._cpu_seconds() >= max_cpu:
        raise _Failed('timeout')
      if _is_ready(pipe, select.POLLIN, min(seconds, POLL_SECONDS)):
        data = os.read(pipe, 1 << 16)
        if not data:
          raise self._exit_failure()
        if b'\n' in data:
          end = len(self.unread) + data.index(b'\n')
        self.unread += data
    line = bytes(self.unread[:end])
    del self.unread[: end + 1]
    return line

  def _cpu_seconds(self):
    """CPU seconds of the process so far; 0 on systems without /proc."""
    try:
      with open(f'/proc/{self.process.pid}/stat', 'rb') as file:
        fields = file.read().rpartition(b')')[2].split()
    except OSError:
      return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS

  def _exit_failure(self):
    try:
      code = self.process.wait(GRACE)
    except TimeoutExpired:  # It has closed its output only.
      return _Failed('crashed')
    return _Failed('died' if code in KILLED else 'crashed')


class _Failed(Exception):
  """The failure of a job, as in Result."""


def _is_ready(pipe, event, seconds):
  """Whether the pipe is ready within `seconds`. Unlike select.select, also for
  descriptors above 1023."""
  poll = select.poll()
  poll.register(pipe, event)
  return bool(poll.poll(seconds * 1000))


def main(memory: int, parent_pipe: int) -> None:
  """A worker process: runs one job after another until stdin ends.

  Reads ['module:function', arguments, prepare] as a line of JSON; writes the
  line 'loaded' when the function is imported, then the line [kind, value].
  """
  # Redirect the job's output to stderr, to keep stdout for results.
  results = os.fdopen(os.dup(1), 'wb', buffering=0)
  os.dup2(2, 1)
  _end_with_parent(parent_pipe)
  # All processes get them when a machine shuts down; the run still needs results.
  for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
  if LINUX:  # Other systems count address space differently.
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory if hard < 0 else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  for line in sys.stdin.buffer:
    results.write(_result(results, *json.loads(line)) + b'\n')


def _result(results, name, job, prepare=()):
  try:
    try:
      function = pkgutil.resolve_name(name)
      if prepare:
        pkgutil.resolve_name(prepare[0])(*prepare[1:])
    finally:
      results.write(b'loaded\n')
    data = json.dumps(['value', function(*job)]).encode()
  except MemoryError:
    return b'["memory", null]'
  except Exception as error:
    problem = f'error: {type(error).__name__}: {str(error)[:500]}'
    return json.dumps([problem, None]).encode()
  return data if len(data) <= MAX_BYTES else b'["output", null]'


def _end_with_parent(pipe):
  """Kills this process group when the other end of the pipe is closed, even
  during a computation."""
  if not LINUX:  # A thread must wait, which needs the interpreter's lock.
    threading.Thread(target=_wait_and_kill, args=(pipe,), daemon=True).start()
    return
  fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
  fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
  flags = fcntl.fcntl(pipe, fcntl.F_GETFL)
  fcntl.fcntl(pipe, fcntl.F_SETFL, flags | os.O_ASYNC)
  if _is_ready(pipe, select.POLLIN, 0):  # It was closed before.
    os._exit(1)


def _wait_and_kill(pipe):
  os.read(pipe, 1)
  os.killpg(0, signal.SIGKILL)


if __name__ == '__main__':
  main(*map(int, sys.argv[1:]))
