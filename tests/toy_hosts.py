"""The stages as several processes on this machine run them, a CPU device each."""

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

ROOT = pathlib.Path(__file__).parent.parent


def port():
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def environment(host, hosts, address, **more):
  several = dict(
    R1JAX_COORDINATOR=address, R1JAX_HOSTS=str(hosts), R1JAX_HOST=str(host)
  )
  return (
    os.environ
    | dict(
      JAX_PLATFORMS='cpu',
      XLA_FLAGS='',
      R1JAX_HEARTBEAT='10',
      PYTHONPATH=f'{ROOT}:{ROOT / "tests"}',
      **(several if hosts > 1 else {}),
    )
    | more
  )


def stage(name, workdir, *changes):
  """The arguments of python for a stage with its toy config changed."""
  changes = [f'--config.{change}' for change in changes]
  file = toy.HERE / f'toy_{name}.py'
  return ['-m', 'r1jax', name, '--config', file, '--workdir', workdir, *changes]


class Hosts:
  """Processes that run the same arguments; arguments(host) where they are a
  function. What they say goes to files."""

  def __init__(self, count, arguments, **more):
    self.folder = pathlib.Path(tempfile.mkdtemp(prefix='hosts-'))
    address = f'127.0.0.1:{port()}'
    self.processes = []
    for host in range(count):
      mine = arguments(host) if callable(arguments) else arguments
      with open(self.folder / str(host), 'w') as said:
        self.processes.append(
          subprocess.Popen(
            [sys.executable, *map(str, mine)],
            stdout=said,
            cwd=ROOT,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment(host, count, address, **more),
          )
        )

  def said(self, host):
    return (self.folder / str(host)).read_text()

  def kill(self, host, number=signal.SIGKILL):
    self.processes[host].send_signal(number)

  def wait(self, seconds=60):
    """The exit codes; whoever has not ended then is killed, with an error."""
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


def run(count, arguments, seconds=60, **more):
  """What the processes said, once all have ended well."""
  with running(count, arguments, **more) as hosts:
    try:
      codes = hosts.wait(seconds)
    except subprocess.TimeoutExpired:
      codes = 'too slow'
    said = [hosts.said(host) for host in range(count)]
    assert codes == [0] * count, (codes, '\n----\n'.join(said))
    return said


SCRIPT = """\
import json, os, pathlib, sys, time
import numpy as np
from r1jax import checkpoint, errors, hosts, main

workdir, host = pathlib.Path(sys.argv[1]), int(os.environ['R1JAX_HOST'])

def run():
  with hosts.joined(workdir, main.ending):
    body()
  return 0

def body():
BODY

main.run = lambda _: run()
sys.exit(main.main(['script']))
"""


def script(workdir, body):
  """Arguments of python for a body that all hosts run."""
  body = textwrap.indent(textwrap.dedent(body), '  ')
  return ['-c', SCRIPT.replace('BODY', body), workdir]


def wait_for(condition, seconds=60):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, 'too slow'
    time.sleep(0.02)


LOOP = """
  (workdir / str(host)).touch()
  while True:
    hosts.boundary()
    time.sleep(0.01)
"""


@contextlib.contextmanager
def looping(count, tmp_path, body=LOOP, **more):
  """Processes that have all come to their loop."""
  with running(count, script(tmp_path, body), **more) as many:
    wait_for(lambda: all((tmp_path / str(n)).exists() for n in range(count)))
    yield many


def rl(base, workdir, *changes):
  return stage('rl', workdir, f'init={base}/model', *changes)


def saved(workdir):
  paths = (workdir / 'checkpoints').glob('*')
  return max(int(path.name) for path in paths if path.name.isdigit())
