"""The stages as several processes on this machine run them, a CPU device each."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
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
  return os.environ | dict(
    JAX_PLATFORMS='cpu', XLA_FLAGS='', R1JAX_HEARTBEAT='10',
    PYTHONPATH=f'{ROOT}:{ROOT / "tests"}', **(several if hosts > 1 else {}),
  ) | more  # fmt: skip


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
          )  # fmt: skip
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
