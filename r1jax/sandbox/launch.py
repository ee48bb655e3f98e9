"""How Python is started in a sandbox, and what it is told first."""

import functools
import importlib.resources
import marshal
import os

from r1jax.sandbox import kernel, library

# Unlike -I these flags leave PYTHONHASHSEED, the only variable that is set: a
# program that depends on the order of a set must be judged alike twice.
FLAGS = '-P', '-s', '-S', '-X', 'utf8'
ENVIRONMENT = {'PYTHONHASHSEED': '0'}
START = """
import sys
def start(wire, inside, setup):
  room = sys.modules['r1jax'] = sys.modules['r1jax.sandbox'] = type(sys)('room')
  room.wire, room.inside = type(sys)('wire'), type(sys)('inside')
  if setup['serve']:
    exec(wire, room.wire.__dict__)
  exec(inside, room.inside.__dict__)
  del sys.modules['r1jax'], sys.modules['r1jax.sandbox']
  room.inside.main(setup)
"""
BOOT = (
  START
  + """
import marshal, posix
def read(n):
  data = b''
  while len(data) < n:
    data += posix.read(0, n - len(data)) or posix._exit(1)
  return data
start(*marshal.loads(read(int(read(16), 16))))
"""
)


@functools.cache
def sources():
  """The texts of `wire` and `inside`, which go into the sandbox."""
  files = importlib.resources.files('r1jax.sandbox')
  return [(files / f'{x}.py').read_text() for x in ('wire', 'inside')]


@functools.cache
def compiled():
  return [compile(text, 'sandbox', 'exec', optimize=2) for text in sources()]


def payload(tier, code, limits, serve):
  """What the process reads first: the driver, compiled, and its orders."""
  setup = dict(
    serve=serve,
    say_loaded=True,
    code=code,
    output=limits.output,
    restrictions=kernel.restrictions(limits, tier.name == 'landlock'),
  )
  data = marshal.dumps((*compiled(), setup))
  return b'%016x' % len(data) + data


def command(tier):
  """The arguments that start Python in a tier."""
  run = [library.interpreter(), *FLAGS, '-c', BOOT]
  return [tier.place, *mounts(), '--', *run] if tier.name == 'bwrap' else run


@functools.cache
def mounts():
  """What bubblewrap shows of the machine: libraries to read, a small /tmp."""
  shown, hidden = library.trees()
  options = [
    '--unshare-user',
    '--unshare-ipc',
    '--unshare-pid',
    '--unshare-net',
    '--unshare-uts',
    '--unshare-cgroup-try',
    '--die-with-parent',
    '--clearenv',
    '--cap-drop',
    'ALL',
    '--size',
    str(kernel.SCRATCH),
    '--tmpfs',
    '/tmp',
  ]
  for path in (*shown, library.interpreter()):
    if os.path.islink(path) and os.path.dirname(path) == '/':
      options += ['--symlink', os.readlink(path), path]
    else:
      options += ['--ro-bind', path, path]
  for path in hidden:
    options += ['--size', '4096', '--tmpfs', path, '--remount-ro', path]
  for path in library.DEVICES:
    options += ['--dev-bind', path, path]
  for name, value in ENVIRONMENT.items():
    options += ['--setenv', name, value]
  return [*options, '--remount-ro', '/', '--chdir', '/tmp']
