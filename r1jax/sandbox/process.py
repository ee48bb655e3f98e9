"""A local sandboxed process, with limits on time and output. Closing it also
kills all processes that it started."""

import contextlib
import math
import os
import select
import time
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM
from subprocess import PIPE, Popen
from typing import Any

from r1jax.sandbox import inside, kernel, launch, outcome
from r1jax.sandbox.launch import Tier
from r1jax.sandbox.outcome import Limits, Spent, Stopped

CHUNK = 1 << 16
MAX_STDERR = 2000  # bytes of stderr that are kept
KILL_SECONDS = 30.0  # in which the kernel must end killed processes
POLL_SECONDS = 0.05  # between two looks at the CPU time of a process
# The time to start Python, which is not part of a limit.
START_SECONDS, START_WALL_SECONDS = 0.25, 60.0
KILLED = [-x for x in (SIGKILL, SIGTERM, SIGHUP, SIGINT)]
TICKS = os.sysconf('SC_CLK_TCK')


class Process:
  """Python in a sandbox, whose stdin begins with a launch.payload. The limits of
  a test apply to loading the program, to each call, and to each exchange before
  and after a call; those of the suite to all of it."""

  def __init__(
    self, tier: Tier, limits: Limits, stdin: bytes, spent: Spent | None = None
  ) -> None:
    self.tier, self.limits, self.spent = tier, limits, spent or Spent()
    self.started = time.monotonic()
    self.deadline = self.started + (limits.suite_wall or math.inf)
    self.unsent = memoryview(stdin)
    self.stdout, self.stderr = b'', b''
    self.is_restricted = False  # the program starts afterwards
    self.lived, self.cpu_seen, self.delay_seen = 0.0, 0.0, 0.0
    self.exit_code: int | None = None
    settings: Any = dict(stdin=PIPE, stdout=PIPE, stderr=PIPE, bufsize=0)
    settings |= dict(cwd='/', env=launch.ENVIRONMENT, start_new_session=True)
    try:
      self.child: Any = Popen(launch.command(tier), **settings)
    except OSError as error:
      raise Stopped('infra', f'cannot start {tier.name}: {error}') from error
    assert self.child.stdin
    os.set_blocking(self.child.stdin.fileno(), False)
    self.readable = [self.child.stdout, self.child.stderr]  # not at their end
    self.delay_at_start = self._delay()
    self._begin(START_WALL_SECONDS)

  def load(self) -> None:
    """Waits until the functions are defined. Raises Stopped on failure."""
    reply = self._read_reply()
    if reply != ('loaded', ''):
      raise outcome.reported_end(reply)

  def ask(self, line: bytes) -> object:
    """The reply to a request; if none, ends the process and raises Stopped."""
    try:
      for pipe in _ready(self.readable, [], 0):
        self._read(pipe)
      if self.stdout:
        raise Stopped('error', 'the program sent a reply without a request')
      self.unsent = memoryview(line)
      for stage in inside.CALLED, inside.RETURNED:
        self._begin(self.limits.max_wall)
        reply = self._read_reply()
        if reply != stage:
          raise outcome.reported_end(reply)
      self._begin(self.limits.max_wall)
      return self._read_reply()
    except Stopped:
      self.close()
      raise

  def communicate(self) -> None:
    """Sends all of stdin and waits until the process has ended."""
    while self.readable:
      if not self.unsent:
        self.child.stdin.close()
      self._exchange()
    self._wait()

  def exit_reason(self) -> tuple[str, str]:
    """(kind, detail) of a process that has ended by itself."""
    stderr = self.stderr.decode('utf-8', 'replace').strip()
    code = self.exit_code
    assert code is not None
    if not self.is_restricted:
      return 'infra', f'{self.tier.name} did not start: {stderr[-500:]}'
    # The kernel kills a process at its limit of CPU time.
    if code in (-SIGKILL, 128 + SIGKILL):
      seconds = kernel.cpu_limit(self.limits)
      if self.lived > seconds - 0.1:
        return 'timeout', f'more than {seconds} seconds of CPU time'
    # A program cannot send signals; a machine that shuts down does.
    if code in KILLED:
      return 'infra', 'the process was killed by another one'
    kind = outcome.EXIT_KINDS.get(code, 'error')
    return kind, stderr or f'exit code {code}'

  def close(self) -> None:
    """Kills all processes of the sandbox and waits for their end."""
    if self.exit_code is not None:
      return
    if self.tier.name == 'bwrap':
      self._kill_namespace()
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.child.pid, SIGKILL)
    if not self._has_ended(KILL_SECONDS):
      raise Stopped('infra', 'the kernel does not end a killed process')
    _, status, usage = os.wait4(self.child.pid, 0)
    # bubblewrap does not wait for its children, so their time is not in `usage`.
    self.spent.seconds += max(self.cpu_seen, usage.ru_utime + usage.ru_stime)
    self.spent.delay += self.delay_seen - self.delay_at_start
    self.lived = time.monotonic() - self.started
    self.exit_code = os.waitstatus_to_exitcode(status)
    self.child.returncode = self.exit_code
    # The pipes end with the last process of the sandbox.
    deadline = time.monotonic() + KILL_SECONDS
    while self.readable and time.monotonic() < deadline:
      for pipe in _ready(self.readable, [], KILL_SECONDS):
        if not os.read(pipe.fileno(), CHUNK):
          self.readable.remove(pipe)
    for pipe in (self.child.stdin, self.child.stdout, self.child.stderr):
      pipe.close()

  def _read_reply(self):
    while self.readable and b'\n' not in self.stdout:
      self._exchange()
    line, found, self.stdout = self.stdout.partition(b'\n')
    if found:
      return outcome.parse_reply(line)
    self._wait()
    self.close()
    kind, detail = self.exit_reason()
    raise Stopped('error' if kind == 'passed' else kind, detail)

  def _exchange(self):
    """Waits until a pipe is ready, then writes and reads without waiting."""
    seconds = min(self._seconds_left(), POLL_SECONDS)
    stdin = self.child.stdin
    writable = [stdin] if self.unsent and not stdin.closed else []
    for pipe in _ready(self.readable, writable, seconds):
      if pipe is stdin:
        self._write()
      else:
        self._read(pipe)

  def _begin(self, wall):
    """Starts a new test, or the exchange before or after it, of `wall` seconds."""
    self.wall, self.began = wall, time.monotonic()
    self.cpu_before, self.delay_before = self._cpu_seconds(), self._delay()

  def _seconds_left(self):
    """Seconds of wall time that are left. Raises Stopped if none are, or no CPU
    time. What a busy machine makes the two processes wait does not count."""
    now, delay = time.monotonic(), self._delay()
    left = self.wall - (now - self.began) + (delay - self.delay_before)
    if self.is_restricted:
      left = min(left, self.deadline - now + delay - self.delay_at_start)
      used = self._cpu_seconds() - self.cpu_before
      if used > self.limits.max_seconds + START_SECONDS:
        raise Stopped('timeout', f'more than {self.limits.seconds} CPU seconds')
    if left <= 0:
      kind = 'timeout' if self.is_restricted else 'infra'
      raise Stopped(kind, outcome.WALL_TIME)
    return left

  def _delay(self):
    """Seconds that this thread and the sandbox have waited for a CPU so far."""
    pids = ['thread-self', self.child.pid, *_descendants(self)]
    self.delay_seen = max(self.delay_seen, sum(map(_delay, pids)))
    return self.delay_seen

  def _cpu_seconds(self):
    """CPU seconds of the sandbox's processes so far."""
    pids = [self.child.pid, *_descendants(self)]
    self.cpu_seen = max(self.cpu_seen, sum(map(_cpu_seconds, pids)))
    return self.cpu_seen

  def _write(self):
    try:
      written = os.write(self.child.stdin.fileno(), self.unsent[:CHUNK])
      self.unsent = self.unsent[written:]
    except BlockingIOError:
      pass
    except BrokenPipeError:
      self.child.stdin.close()
      self.unsent = self.unsent[:0]

  def _read(self, pipe):
    data = os.read(pipe.fileno(), CHUNK)
    if not data:
      self.readable.remove(pipe)
    elif pipe is self.child.stdout:
      self.stdout += data
      if len(self.stdout) > self.limits.output:
        raise Stopped('output', f'more than {self.limits.output} bytes')
    else:
      self.stderr += data
      if not self.is_restricted and inside.READY in self.stderr:
        self.is_restricted = True
        self._begin(self.limits.max_wall)
        _, _, self.stderr = self.stderr.partition(inside.READY)
      self.stderr = self.stderr[-MAX_STDERR:]

  def _wait(self):
    """Waits until the process has ended by itself."""
    while not self._has_ended(min(self._seconds_left(), POLL_SECONDS)):
      pass

  def _has_ended(self, seconds):
    """Whether the process ends within `seconds`. Does not reap it."""
    options = os.WEXITED | os.WNOWAIT | os.WNOHANG
    deadline, pause = time.monotonic() + seconds, 0.0002
    while not os.waitid(os.P_PID, self.child.pid, options):
      if time.monotonic() > deadline:
        return False
      time.sleep(pause)
      pause = min(2 * pause, 0.02)
    return True

  def _kill_namespace(self):
    """Kills the first process of bubblewrap's namespace, with which all others
    end. bubblewrap reaps it; a container may have no init that would."""
    with contextlib.suppress(OSError):
      children = _children(self.child.pid)
      for child in children:
        os.kill(child, SIGKILL)
      self._has_ended(KILL_SECONDS if children else 0)


def _children(pid):
  with open(f'/proc/{pid}/task/{pid}/children') as file:
    return [int(x) for x in file.read().split()]


def _descendants(process):
  """The processes that bubblewrap has started; the other tier starts none."""
  found, new = [], [process.child.pid] if process.tier.name == 'bwrap' else []
  while new:
    with contextlib.suppress(OSError):
      children = _children(new.pop())
      found += children
      new += children
  return found


def _cpu_seconds(pid):
  """CPU seconds of a process; 0 if it has ended."""
  try:
    with open(f'/proc/{pid}/stat', 'rb') as file:
      fields = file.read().rpartition(b')')[2].split()
  except OSError:
    return 0.0
  return (int(fields[11]) + int(fields[12])) / TICKS


def _delay(pid):
  """Seconds that a process was ready to run but had no CPU; 0 if unknown."""
  try:
    with open(f'/proc/{pid}/schedstat', 'rb') as file:
      return int(file.read().split()[1]) / 1e9
  except (OSError, IndexError):
    return 0.0


def _ready(readable, writable, seconds):
  """The pipes that are ready within `seconds`, those to write first. Unlike
  select.select, also for descriptors above 1023."""
  poll = select.poll()
  for pipe in readable:
    poll.register(pipe, select.POLLIN)
  for pipe in writable:
    poll.register(pipe, select.POLLOUT)
  found = {descriptor for descriptor, _ in poll.poll(max(0, seconds) * 1000)}
  return [x for x in (*writable, *readable) if x.fileno() in found]
