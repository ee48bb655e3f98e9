"""How Python is started in a sandbox, and the data that it reads first."""

import functools
import importlib.resources
import marshal
import os
from typing import NamedTuple

from r1jax.sandbox import kernel, library
from r1jax.sandbox.outcome import Limits

# Unlike -I, these flags respect PYTHONHASHSEED: a program that depends on the
# order of a set must behave alike in every run. numpy may not start threads.
FLAGS = '-P', '-s', '-S', '-X', 'utf8'
ENVIRONMENT = {'PYTHONHASHSEED': '0', 'OPENBLAS_NUM_THREADS': '1'}
ISOLATION = (
  '--unshare-user --unshare-ipc --unshare-pid --unshare-net --unshare-uts '
  '--unshare-cgroup-try --die-with-parent --clearenv --cap-drop ALL'
)
# Creates the modules wire, modules and inside from their sources. Their usual
# names exist only while `inside` imports the others.
START = """
import sys
def start(wire, modules, inside, serve, *arguments):
  new = type(sys)
  package = sys.modules['r1jax'] = sys.modules['r1jax.sandbox'] = new('package')
  package.wire, package.inside = new('wire'), new('inside')
  package.modules = new('modules')
  if serve:
    exec(wire, package.wire.__dict__)
  exec(modules, package.modules.__dict__)
  exec(inside, package.inside.__dict__)
  del sys.modules['r1jax'], sys.modules['r1jax.sandbox']
  package.inside.main(serve, *arguments)
"""
# Follows START locally: reads the payload from stdin.
BOOT = """
import marshal, posix
def read(n):
  data = b''
  while len(data) < n:
    data += posix.read(0, n - len(data)) or posix._exit(1)
  return data
start(*marshal.loads(read(int(read(16), 16))))
"""
NAMES = 'wire', 'modules', 'inside'  # of the sources


class Tier(NamedTuple):
  """A way to run programs: 'bwrap', 'landlock' or 'service'."""

  name: str
  location: str  # bubblewrap's path, the service's URL, '' for landlock


def payload(
  tier: Tier, code: list[str], limits: Limits, serve: bool, given: dict
) -> bytes:
  """What BOOT reads: the compiled driver and its arguments."""
  restrictions = kernel.restrictions(limits, tier.name == 'landlock')
  arguments = serve, code, limits.output, restrictions, _with_packages(given)
  data = marshal.dumps((*_compiled(), *arguments))
  return b'%016x' % len(data) + data


def script(code: list[str], limits: Limits, serve: bool, given: dict) -> str:
  """A Python program for a service, which restricts it itself and has its own
  packages."""
  arguments = (*_sources(), serve, code, limits.output, {}, given)
  return f'{START}\nstart(*{arguments!r})\n'


def _with_packages(given):
  return given | dict(packages=library.packages())


def command(tier: Tier) -> list[str]:
  """The command that starts Python in a local tier."""
  python = [library.interpreter(), *FLAGS, '-c', START + BOOT]
  if tier.name == 'bwrap':
    return [tier.location, *bwrap_options(), '--', *python]
  return python


@functools.cache
def bwrap_options() -> list[str]:
  """Namespaces, and mounts: libraries and an empty /tmp, read-only."""
  shown, hidden = library.mounts()
  options = [*ISOLATION.split(), '--tmpfs', '/tmp', '--remount-ro', '/tmp']
  for path in (*shown, library.interpreter()):
    if os.path.islink(path) and os.path.dirname(path) == '/':
      options += ['--symlink', os.readlink(path), path]
    else:
      options += ['--ro-bind', path, path]
  for path in hidden:
    options += ['--size', '4096', '--tmpfs', path]
  for path in library.package_folders():
    options += ['--ro-bind', path, path]
  for path in hidden:
    options += ['--remount-ro', path]
  for path in library.DEVICES:
    options += ['--dev-bind', path, path]
  for name, value in ENVIRONMENT.items():
    options += ['--setenv', name, value]
  return [*options, '--remount-ro', '/', '--chdir', '/tmp']


@functools.cache
def _sources():
  folder = importlib.resources.files('r1jax.sandbox')
  return [(folder / f'{name}.py').read_text() for name in NAMES]


@functools.cache
def _compiled():
  return [compile(text, 'sandbox', 'exec', optimize=2) for text in _sources()]
