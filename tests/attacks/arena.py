"""Secrets, sockets and folders around the attacks, and the damage to them."""

import contextlib
import gc
import glob
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from attacks import programs

from r1jax.rewards.code import unit_tests
from r1jax.sandbox import launch, tiers, wire

TEST = """
METADATA = {{'token': '{token}'}}
def check(candidate):
  assert candidate([1, 2, 3]) == 20
  assert candidate([]) == 0
  x = candidate([5])
  assert x == 25, f'got {{x}}'
  xs = [4, 9, 11]
  assert not candidate(xs) != 404 and xs == [4, 9, 11]
  assert candidate([7, 7]) in [196]
"""
PROMPT = (
  'def score(xs: list) -> int:\n'
  '    """The squares of the odd numbers, summed, times their count."""\n'
)
CASES = [([1, 2, 3], 20), ([7, 7], 196), ([5, 9], 212)]
# Careless as those of sets are: it repeats what it does not accept.
CHECKER = """import sys
_, expected, got = [open(name).read() for name in sys.argv[1:]]
if got.strip().isdigit() and int(got) == int(expected): print(1)
else: print(0); print('expected', expected, 'not', got[:200])
"""
MARKS = 'r1jax_mark_'
GRACE = 300.0  # seconds in which killed processes must end


class RecordingChannel:
  """A channel whose replies are recorded."""

  def __init__(self, channel, record):
    self.channel, self.record = channel, record

  def ask(self, line):
    reply = self.channel.ask(line)
    self.record(wire.encode(reply, 1 << 24))
    return reply


class Arena:
  """A tier with secrets, listeners and folders around it.

  Records what programs output. `damage()` lists all that must not happen.
  """

  def __init__(self, tier, folder):
    self.tier, self.outputs, self.lock = tier, [], threading.Lock()
    token = uuid.uuid4().hex
    self.argument = f'r1jax-attacked-{token}'  # of all processes of the sandbox
    self.tokens = f'r1jax_secret_{token}', f'r1jax_test_{token}'
    self.secret = folder / 'planted'
    self.secret.write_text(self.tokens[0])
    self.folders = sorted(
      path
      for path in {
        tempfile.gettempdir(),
        str(pathlib.Path.home()),
        os.getcwd(),
        '/',
        '/dev/shm',
        '/var/tmp',
        str(folder),
        str(pathlib.Path(__file__).parent),
        *map(os.path.abspath, sys.path),
      }
      if os.path.isdir(path)
    )
    self.function = dict(
      id='score',
      prompt=PROMPT,
      entry_point='score',
      test=TEST.format(token=self.tokens[1]),
    )
    self.records = dict(
      function=self.function,
      asserts=dict(
        id='asserts',
        entry_point='score',
        tests=[{'assert': f'score({xs}) == {want}'} for xs, want in CASES]
        + [{'assert': 'abs(score([3, 3]) - 36) < 1e-6'}],
      ),
      stdin=dict(
        id='stdin',
        tests=[
          dict(input=' '.join(map(str, xs)) + '\n', output=f'{want}\n')
          for xs, want in CASES
        ],
      ),
    )
    self.records['checker'] = self.records['stdin'] | dict(checker=CHECKER)

  @contextlib.contextmanager
  def prepared(self, monkeypatch):
    """Opens the listeners and records the output of programs."""
    with contextlib.ExitStack() as stack:
      self.listeners = [
        stack.enter_context(socket.socket(family, kind))
        for family, kind in (
          (socket.AF_INET, socket.SOCK_STREAM),
          (socket.AF_INET, socket.SOCK_DGRAM),
          (socket.AF_UNIX, socket.SOCK_STREAM),
          (socket.AF_UNIX, socket.SOCK_STREAM),
        )
      ]
      # A path for a socket may not be longer than about 100 characters.
      short = stack.enter_context(tempfile.TemporaryDirectory(dir='/tmp'))
      self.abstract = '\0' + self.argument
      addresses = (('127.0.0.1', 0),) * 2 + (f'{short}/socket', self.abstract)
      for listener, address in zip(self.listeners, addresses, strict=True):
        listener.bind(address)
        listener.setblocking(False)
        if listener.type == socket.SOCK_STREAM:
          listener.listen()
      self.socket = addresses[2]
      opened = stack.enter_context(self.secret.open())
      os.set_inheritable(opened.fileno(), True)
      monkeypatch.setenv('R1JAX_SECRET', self.tokens[0])
      monkeypatch.setattr(launch, 'command', self._mark(launch.command))
      monkeypatch.setattr(tiers, 'run', self._record_run(tiers.run))
      monkeypatch.setattr(
        tiers, 'open_program', self._record_calls(tiers.open_program)
      )
      self.before = self.state()
      yield self

  def _mark(self, command):
    return lambda tier: [*command(tier), self.argument]

  def _record_run(self, run):
    def recorded(*args, **kwargs):
      outcome = run(*args, **kwargs)
      self._record(outcome.stdout.decode('utf-8', 'replace'), outcome.detail)
      return outcome

    return recorded

  def _record_calls(self, open_program):
    @contextlib.contextmanager
    def recorded(*args, **kwargs):
      with open_program(*args, **kwargs) as program:
        program.channel = RecordingChannel(program.channel, self._record)
        yield program

    return recorded

  def _record(self, *texts):
    with self.lock:
      self.outputs += texts

  def source(self, attack):
    """The attack's program, with the names of its targets."""
    ports = [x.getsockname()[1] for x in self.listeners[:2]]
    names = dict(
      PORT=ports[0],
      UDP=ports[1],
      SOCKET=self.socket,
      ABSTRACT=self.abstract,
      SECRET=str(self.secret),
      FOLDERS=self.folders,
    )
    head = ''.join(f'{key} = {value!r}\n' for key, value in names.items())
    return head + programs.HEAD + attack.code

  def judge(self, attacks, memory=256 << 20):
    """[(attack, Verdict, seconds)], with partial credit."""

    def judge_one(attack):
      started = time.monotonic()
      verdict = unit_tests.judge(
        self.records[attack.shape],
        self.source(attack),
        self.tier,
        tiers.Limits(attack.seconds, memory, 1 << 20),
        partial=True,
      )
      self._record(verdict.kind, verdict.reason)
      return attack, verdict, time.monotonic() - started

    with ThreadPoolExecutor(6) as pool:
      return list(pool.map(judge_one, attacks))

  def damage(self):
    """A sentence for each thing that programs have done, read or left."""
    found = {x[:200] for x in self.outputs if 'r1jax_escaped' in x}
    for token in self.tokens:
      if any(token in text for text in self.outputs):
        found.add(f'{token} was read')
    found |= {f'{path} was left' for path in remove_marks(self.folders)}
    found |= settled(self.processes)
    found |= {f'{x.getsockname()} was reached' for x in self.reached()}
    return sorted(found | settled(self.changes))

  def reached(self):
    """The listeners that received something."""
    for listener in self.listeners:
      with contextlib.suppress(BlockingIOError):
        if listener.type == socket.SOCK_STREAM:
          listener.accept()[0].close()
        else:
          listener.recv(64)
        yield listener

  def processes(self):
    """Processes of the sandbox that are alive, though no program runs."""
    return {f'process {pid} is alive' for pid in pids_of(self.argument)}

  def changes(self):
    """The differences of the state from that at the start."""
    after = self.state()
    return {
      f'{key} was {value} and is {after[key]}'
      for key, value in self.before.items()
      if after[key] != value
    }

  def state(self):
    """What programs could change of this process and of the secret file."""
    gc.collect()
    stat = self.secret.stat()
    umask = os.umask(0o022)
    os.umask(umask)
    return dict(
      handlers={n: signal.getsignal(n) for n in signal.valid_signals()},
      blocked=signal.pthread_sigmask(signal.SIG_BLOCK, ()),
      priority=os.getpriority(os.PRIO_PROCESS, 0),
      folder=os.getcwd(),
      umask=umask,
      descriptors=len(os.listdir('/proc/self/fd')),
      secret=(
        self.secret.read_text(),
        stat.st_mode,
        stat.st_uid,
        stat.st_nlink,
        stat.st_mtime_ns,
        os.listxattr(self.secret),
      ),
      beside=sorted(os.listdir(self.secret.parent)),
      tracer=[
        x
        for x in pathlib.Path('/proc/self/status').read_text().splitlines()
        if x.startswith('TracerPid')
      ],
    )


def settled(find):
  """What find() still returns after a time of grace."""
  deadline = time.monotonic() + GRACE
  while (found := find()) and time.monotonic() < deadline:
    time.sleep(0.02)
  return found


def remove_marks(folders):
  """The paths of the marks in folders, which are removed."""
  found = []
  for folder in folders:
    found += glob.glob(f'{glob.escape(folder)}/*{MARKS}*')
  for path in found:
    if os.path.isdir(path):
      os.rmdir(path)
    else:
      os.unlink(path)
  return found


def pids_of(argument):
  """The processes of this machine that have an argument."""
  for path in glob.glob('/proc/[0-9]*/cmdline'):
    with contextlib.suppress(OSError):
      if argument.encode() in pathlib.Path(path).read_bytes():
        yield int(path.split('/')[2])
