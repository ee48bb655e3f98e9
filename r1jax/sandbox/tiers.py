"""Runs programs of a model with limits on time, memory and output.

Programs have no access to network, files or other processes. There are three
tiers: `bwrap` (the namespaces of bubblewrap), `landlock` (for containers that
forbid namespaces) and `service` (a SandboxFusion service elsewhere). The first
two also filter system calls by seccomp and limit resources.
"""

import contextlib
import dataclasses
import json
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping

from r1jax import errors
from r1jax.sandbox import kernel, launch, process, service
from r1jax.sandbox.launch import Tier
from r1jax.sandbox.outcome import Limits, Outcome, Program, Spent, Stopped

# Each function tries what a sandbox must deny; names that succeed are printed.
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
HARMLESS_AT_SERVICE = {'fork', 'kill'}


def find(service_url: str = '') -> Tier:
  """The first tier that works here. Raises UserError if there is none."""
  reasons = []
  for name, tier, reason in probe(service_url):
    if tier:
      return tier
    reasons.append(f'{name}: {reason}')
  sentence = (
    f'programs cannot be run safely on this machine ({"; ".join(reasons)}): '
    'apt install bubblewrap, allow user namespaces or landlock and seccomp in '
    'this container, or set config.verify.service to a SandboxFusion URL'
  )
  if service_url:  # which may only be out of reach now: the cause says so
    with errors.explained(sentence):
      service.reach(service_url)
  raise errors.UserError(sentence)


def probe(service_url: str = '') -> Iterator[tuple[str, Tier | None, str]]:
  """Tests the tiers in turn: (name, Tier or None, why it does not work)."""
  for tier in (
    Tier('bwrap', shutil.which('bwrap') or ''),
    Tier('landlock', ''),
    Tier('service', service_url),
  ):
    reason = _missing(tier) or _canary(tier)
    yield tier.name, None if reason else tier, reason


def run(
  tier: Tier,
  code: list[str],
  stdin: str,
  limits: Limits,
  given: Mapping = {},
  spent: Spent | None = None,
) -> Outcome:
  """The Outcome of a program, whose texts run in one namespace. `given` may
  have `names` and `recursion` (environment.provided), and `files`, texts that
  the program finds by the names in sys.argv. Adds the CPU time to `spent`."""
  if tier.name == 'service':
    script = launch.script(code, limits, False, dict(given))
    return service.run(tier.location, script, stdin, limits)
  # The process runs one test, so it has no more CPU time than that.
  seconds = limits.max_seconds + process.START_SECONDS
  limits = dataclasses.replace(limits, suite_seconds=seconds)
  data = launch.payload(tier, code, limits, False, dict(given))
  data += stdin.encode('utf-8', 'surrogateescape')
  try:
    running = process.Process(tier, limits, data, spent)
    with contextlib.closing(running):
      running.communicate()
  except Stopped as stopped:
    return Outcome(stopped.kind, b'', stopped.detail)
  kind, detail = running.exit_reason()
  return Outcome(kind, running.stdout, '' if kind == 'passed' else detail)


@contextlib.contextmanager
def open_program(
  tier: Tier,
  code: list[str],
  limits: Limits,
  given: Mapping = {},
  spent: Spent | None = None,
) -> Iterator[Program]:
  """A loaded program, which ends on exit. Raises Stopped if loading fails."""
  if tier.name == 'service':
    channel = service.ServiceChannel(tier.location, code, limits, dict(given))
    yield Program(channel)
    return
  data = launch.payload(tier, code, limits, True, dict(given))
  running = process.Process(tier, limits, data, spent)
  with contextlib.closing(running):
    running.load()
    yield Program(running)


def _missing(tier):
  """What this machine lacks for the tier, '' for nothing."""
  if tier.name == 'service':
    return '' if tier.location else 'config.verify.service is not set'
  if platform.machine() not in kernel.MACHINES:
    return f'system call numbers of {platform.machine()} are unknown'
  if tier.name == 'bwrap':
    return '' if tier.location else 'bubblewrap is not installed'
  if not kernel.landlock_version():
    return 'the kernel has no landlock, or this container forbids it'
  return ''


def _canary(tier):
  """Why the tier is not safe; '' if it denies what it must."""
  with contextlib.ExitStack() as stack:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    secret, mark = (os.path.join(folder, x) for x in ('secret', 'mark'))
    with open(secret, 'w') as file:
      file.write('secret')
    listener = stack.enter_context(socket.create_server(('127.0.0.1', 0)))
    names = dict(PORT=listener.getsockname()[1], SECRET=secret, MARK=mark)
    head = ''.join(f'{k} = {json.dumps(v)}\n' for k, v in names.items())
    kind, stdout, detail = run(tier, [head + CANARY], '20\n22\n', Limits())
    marked = os.path.exists(mark)
  if kind != 'passed':
    return f'its canary ended with {kind}: {detail[-300:]}'
  answer, *done = stdout.decode().split()
  if answer != '42':
    return f'its canary computed {answer[:20]} instead of 42'
  if tier.name == 'service':
    done = [x for x in done if x not in HARMLESS_AT_SERVICE]
    if not marked:  # A file that the service writes elsewhere is harmless.
      done = [x for x in done if x != 'write']
  return f'its canary succeeded in: {", ".join(done)}' if done else ''
