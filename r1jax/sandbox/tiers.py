"""Where programs that a model wrote are run: denied all but computing, bounded
in time, memory and output, and judged outside.

Three tiers, found by running a canary in each: `bwrap` (namespaces, by the
program bubblewrap), `landlock` (no namespaces, for containers that forbid
them), `service` (a SandboxFusion service elsewhere). In the first two the
process also filters its own system calls by seccomp and limits its resources.
"""

import contextlib
import functools
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from r1jax import errors
from r1jax.sandbox import kernel, process, service
from r1jax.sandbox.outcome import DEFAULT, Limits, Outcome, Program, Stopped

__all__ = ['Limits', 'Outcome', 'Stopped', 'Tier', 'find', 'opened', 'run']


class Tier(NamedTuple):
  """A way to run programs that was seen to work; place is bubblewrap's path,
  or the service's URL."""

  name: str
  place: str


# Each line is one thing that the canary tries; it prints those that succeeded.
CANARY = """
import os, socket, sys
def connect(): socket.create_connection(('127.0.0.1', PORT), 1).close()
def read(): open(SECRET).read()
def write(): open(MARK, 'w').close()
def listdir(): os.listdir(os.path.dirname(SECRET))
def fork(): os.fork() or os._exit(0)
def kill(): os.kill(os.getppid(), 0)
def environment(): os.environ['R1JAX_CANARY']
done = []
for attempt in connect, read, write, listdir, fork, kill, environment:
  try:
    attempt()
    done.append(attempt.__name__)
  except (OSError, KeyError):
    pass
print(sum(map(int, sys.stdin)), *done)
"""
HARMLESS_ELSEWHERE = {'fork', 'kill'}


def find(service: str = '') -> Tier:
  """The first tier that works here; UserError with the reasons if none does."""
  found = tiers(service, first=True)
  name, tier, _ = found[-1]
  if tier is None:
    reasons = '; '.join(f'{name}: {reason}' for name, _, reason in found)
    raise errors.UserError(
      f'programs cannot be run safely on this machine ({reasons}): install '
      'bubblewrap (apt install bubblewrap), allow user namespaces or landlock '
      'and seccomp in this container, or name a SandboxFusion service'
    )
  return tier


def tiers(service: str = '', first: bool = False) -> list[tuple]:
  """[(name, Tier or None, why not)] of all tiers, or up to the first that
  works."""
  here = kernel.machine() in kernel.MACHINES
  other = (
    '' if here else f'there is no table of system calls for {kernel.machine()}'
  )
  path = shutil.which('bwrap')
  found = []
  for name, place, problem in (
    ('bwrap', path, other or ('' if path else 'bubblewrap is not installed')),
    ('landlock', '', other or _landlock_problem()),
    ('service', service, '' if service else 'no service was named'),
  ):
    tier = Tier(name, place)
    reason = problem or _canary(tier)
    found.append((name, None if reason else tier, reason))
    if first and not reason:
      break
  return found


def run(
  tier: Tier,
  code: str | Sequence[str],
  stdin: bytes | str = b'',
  limits: Limits = DEFAULT,
) -> Outcome:
  """The Outcome of a whole program, which reads stdin and writes stdout.

  code is a text, or several that run one after another in one namespace.
  """
  tier, code = Tier(*tier), _texts(code)
  if isinstance(stdin, str):
    stdin = stdin.encode('utf-8', 'surrogateescape')
  where = service if tier.name == 'service' else process
  return where.run(tier, code, stdin, limits)


@contextlib.contextmanager
def opened(tier: Tier, code: str | Sequence[str], limits: Limits = DEFAULT):
  """A Program whose functions can be called; Stopped if it does not load."""
  tier, code = Tier(*tier), _texts(code)
  if tier.name == 'service':
    yield Program(functools.partial(service.ask, tier, code, limits))
    return
  with process.Process(tier, code, limits, serve=True) as running:
    running.load()
    yield Program(running.ask)


def _texts(code):
  return [code] if isinstance(code, str) else list(code)


def _landlock_problem():
  if not kernel.landlock_version():
    return 'the kernel has no landlock, or this container forbids it'
  return ''


def _canary(tier):
  """Why the tier is not to be trusted, '' if it denied what it must."""
  with contextlib.ExitStack() as stack:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    secret, mark = (os.path.join(folder, x) for x in ('secret', 'mark'))
    with open(secret, 'w') as file:
      file.write('secret')
    listener = stack.enter_context(socket.create_server(('127.0.0.1', 0)))
    names = dict(PORT=listener.getsockname()[1], SECRET=secret, MARK=mark)
    head = ''.join(f'{k} = {json.dumps(v)}\n' for k, v in names.items())
    kind, stdout, detail = run(tier, head + CANARY, '20\n22\n')
    marked = os.path.exists(mark)
  if kind != 'passed':
    return f'its canary ended with {kind}: {detail[-300:]}'
  answer, *done = stdout.decode().split()
  if answer != '42':
    return f'its canary computed {answer[:20]} in the place of 42'
  if tier.name == 'service':
    done = [x for x in done if x not in HARMLESS_ELSEWHERE]
    # A file that is written elsewhere is no mark here.
    done = [x for x in done if x != 'write' or marked]
  return f'its canary was not kept from: {", ".join(done)}' if done else ''
