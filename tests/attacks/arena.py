"""What is planted around the attacks while they run, and how it must be found
afterwards."""

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
MARKS = 'r1jax_mark_'
GRACE = 2.0  # seconds in which what was killed or closed must be gone


class Arena:
  """A tier with secrets, listeners and folders around it; what programs say is
  kept. `harm()` tells everything that should not have happened."""

  def __init__(self, tier, folder):
    self.tier, self.said, self.lock = tier, [], threading.Lock()
    token = uuid.uuid4().hex
    self.argument = f'r1jax-attacked-{token}'  # of every process of the sandbox
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

  @contextlib.contextmanager
  def planted(self, monkeypatch):
    """Everything is laid out; also what programs will say is listened to."""
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
      places = (('127.0.0.1', 0),) * 2 + (f'{short}/socket', self.abstract)
      for listener, place in zip(self.listeners, places, strict=True):
        listener.bind(place)
        listener.setblocking(False)
        if listener.type == socket.SOCK_STREAM:
          listener.listen()
      self.socket = places[2]
      opened = stack.enter_context(self.secret.open())
      os.set_inheritable(opened.fileno(), True)
      monkeypatch.setenv('R1JAX_SECRET', self.tokens[0])
      monkeypatch.setattr(launch, 'command', self._named(launch.command))
      monkeypatch.setattr(tiers, 'run', self._heard(tiers.run))
      monkeypatch.setattr(tiers, 'opened', self._overheard(tiers.opened))
      self.before = self.state()
      yield self

  def _named(self, command):
    return lambda tier: [*command(tier), self.argument]

  def _heard(self, run):
    def running(*args, **kwargs):
      outcome = run(*args, **kwargs)
      self._keep(outcome.stdout.decode('utf-8', 'replace'), outcome.detail)
      return outcome

    return running

  def _overheard(self, opened):
    @contextlib.contextmanager
    def opening(*args, **kwargs):
      with opened(*args, **kwargs) as program:
        ask = program.ask

        def asking(line):
          reply = ask(line)
          self._keep(wire.encode(reply, 1 << 24))
          return reply

        program.ask = asking
        yield program

    return opening

  def _keep(self, *texts):
    with self.lock:
      self.said += texts

  def source(self, attack):
    """The program as it is judged: told where everything is."""
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

  def judged(self, attacks, memory=256 << 20):
    """[(attack, Verdict, seconds)], with partial credit where there is any."""

    def judge(attack):
      began = time.monotonic()
      limits = tiers.Limits(attack.seconds, memory, 1 << 20)
      verdict = unit_tests.judge(
        self.records[attack.shape],
        self.source(attack),
        self.tier,
        limits,
        partial=True,
      )
      self._keep(verdict.kind, verdict.reason)
      return attack, verdict, time.monotonic() - began

    with ThreadPoolExecutor(6) as pool:
      return list(pool.map(judge, attacks))

  def harm(self):
    """Sentences on what the programs have done, learnt or left."""
    done = {
      f'{name} was told' for name in self.tokens if self.has_said(name)
    } | {x[:200] for x in self.said if 'r1jax_escaped' in x}
    done |= {f'{path} was left' for path in marks(self.folders)}
    done |= settled(self.processes)
    done |= {f'{x.getsockname()} was reached' for x in self.reached()}
    return sorted(done | settled(self.changes))

  def has_said(self, token):
    return any(token in text for text in self.said)

  def reached(self):
    """The listeners that somebody has spoken to."""
    for listener in self.listeners:
      with contextlib.suppress(BlockingIOError):
        if listener.type == socket.SOCK_STREAM:
          listener.accept()[0].close()
        else:
          listener.recv(64)
        yield listener

  def processes(self):
    """The processes of the sandbox that are there though nothing runs in it."""
    return {f'process {pid} goes on' for pid in named(self.argument)}

  def changes(self):
    """What of the state is not as it was."""
    after = self.state()
    return {
      f'{key} was {value} and is {after[key]}'
      for key, value in self.before.items()
      if after[key] != value
    }

  def state(self):
    """What of this process and of its file the programs could have changed."""
    gc.collect()
    seen = self.secret.stat()
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
        seen.st_mode,
        seen.st_uid,
        seen.st_nlink,
        seen.st_mtime_ns,
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
  """What is still found after some grace."""
  deadline = time.monotonic() + GRACE
  while (found := find()) and time.monotonic() < deadline:
    time.sleep(0.02)
  return found


def marks(folders):
  """The marks that lie in folders; they are taken away."""
  found = [
    path
    for folder in folders
    for path in glob.glob(f'{glob.escape(folder)}/*{MARKS}*')
  ]
  for path in found:
    os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
  return found


def named(argument):
  """The processes of this machine that were started with an argument."""
  for path in glob.glob('/proc/[0-9]*/cmdline'):
    with contextlib.suppress(OSError):
      if argument.encode() in pathlib.Path(path).read_bytes():
        yield int(path.split('/')[2])
