"""Stages as runs of several processes on this machine, one CPU device each."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time

import toy
import toy_pause

ROOT = pathlib.Path(__file__).parent.parent
MANY_SECONDS = 600  # A slow machine needs a small part of them.


def free_port():
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def environment(host, hosts, address, **more):
  env = os.environ | dict(
    JAX_PLATFORMS='cpu',
    XLA_FLAGS=toy.ONE_DEVICE,
    R1JAX_HEARTBEAT=str(MANY_SECONDS),
    PYTHONPATH=f'{ROOT}:{ROOT / "tests"}',
  )
  if hosts > 1:
    env['R1JAX_COORDINATOR'] = address
    env['R1JAX_HOSTS'], env['R1JAX_HOST'] = str(hosts), str(host)
  return env | more


def stage(name, workdir, *changes):
  """The arguments of python that run a stage with its toy config, changed."""
  file = toy.HERE / f'toy_{name}.py'
  arguments = ['-m', 'r1jax', name, '--config', file, '--workdir', workdir]
  return arguments + [f'--config.{change}' for change in changes]


class Hosts:
  """Running processes. `arguments` are those of python, or a function from the
  host's number to them. Output goes to files."""

  def __init__(self, count, arguments, **more):
    self.folder = pathlib.Path(tempfile.mkdtemp(prefix='hosts-'))
    address = f'127.0.0.1:{free_port()}'
    self.processes = []
    for host in range(count):
      own = arguments(host) if callable(arguments) else arguments
      with open(self.folder / str(host), 'w') as output:
        self.processes.append(
          subprocess.Popen(
            [sys.executable, *map(str, own)],
            stdout=output,
            cwd=ROOT,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment(host, count, address, **more),
          )
        )

  def output(self, host):
    return (self.folder / str(host)).read_text()

  def kill(self, host, number=signal.SIGKILL):
    self.processes[host].send_signal(number)

  def wait(self, seconds=MANY_SECONDS):
    """The exit codes. Raises TimeoutExpired if a process does not end."""
    end = time.monotonic() + seconds
    for process in self.processes:
      process.wait(max(0.1, end - time.monotonic()))
    return [process.returncode for process in self.processes]

  def end(self):
    for process in self.processes:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
      process.wait()


@contextlib.contextmanager
def running(count, arguments, **more):
  hosts = Hosts(count, arguments, **more)
  try:
    yield hosts
  finally:
    hosts.end()


def run(count, arguments, seconds=MANY_SECONDS, **more):
  """Runs processes to the end, which must have exit code 0; their outputs."""
  with running(count, arguments, **more) as hosts:
    try:
      codes = hosts.wait(seconds)
    except subprocess.TimeoutExpired:
      codes = 'too slow'
    outputs = [hosts.output(host) for host in range(count)]
    assert codes == [0] * count, (codes, '\n----\n'.join(outputs))
    return outputs


SCRIPT = """\
import json, os, pathlib, sys, time
import numpy as np
from r1jax import cli, errors
from r1jax.distributed import agreement, hosts, watchdog

workdir, host = pathlib.Path(sys.argv[1]), int(os.environ['R1JAX_HOST'])

def run(name, arguments):
  with hosts.connected(workdir):
    body()
  return 0

def body():
BODY

cli.run = run
sys.exit(cli.main(['script']))
"""


def script(workdir, body):
  """The arguments of python for a script whose body all hosts run."""
  body = textwrap.indent(textwrap.dedent(body), '  ')
  return ['-c', SCRIPT.replace('BODY', body), workdir]


def wait_for(condition):
  end = time.monotonic() + MANY_SECONDS
  while not condition():
    assert time.monotonic() < end, 'too slow'
    time.sleep(0.02)


LOOP = """
  (workdir / str(host)).touch()
  while True:
    hosts.raise_if_terminating()
    time.sleep(0.01)
"""


@contextlib.contextmanager
def looping(count, tmp_path, body=LOOP, **more):
  """Running processes that have all reached their loop."""
  with running(count, script(tmp_path, body), **more) as processes:
    wait_for(lambda: all((tmp_path / str(n)).exists() for n in range(count)))
    yield processes


@contextlib.contextmanager
def paused(count, arguments, step, folder, **more):
  """Running processes of a stage that have all paused at a step."""
  arguments = toy_pause.command(step, folder, arguments)
  names = [f'paused-{n}' for n in range(count)]
  with running(count, arguments, **more) as processes:
    wait_for(lambda: all((folder / name).exists() for name in names))
    yield processes


def terminate_paused(processes, host, folder):
  """Sends SIGTERM to a paused host; then all continue."""
  processes.kill(host, signal.SIGTERM)
  wait_for(lambda: 'received SIGTERM' in processes.output(host))
  (folder / 'continue').touch()


def rl(base, workdir, *changes):
  return stage('rl', workdir, f'init={base}/model', *changes)


def saved(workdir):
  """The newest step that is saved."""
  paths = (workdir / 'checkpoints').glob('*')
  return max(int(path.name) for path in paths if path.name.isdigit())
