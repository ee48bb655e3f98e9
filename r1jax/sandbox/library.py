"""The files that a Python program may read: the standard library, the system's
shared libraries and time zones.

Installed packages are not among them: they may contain the tests and solutions
of a benchmark.
"""

import functools
import glob
import importlib.util
import os
import sys
import sysconfig

INSTALLED = 'site-packages', 'dist-packages'
FILES = '/usr/share/zoneinfo', '/etc/ld.so.cache', '/etc/localtime'
DEVICES = '/dev/null', '/dev/zero', '/dev/urandom'


def interpreter() -> str:
  """The path of the Python on which a virtual environment is based."""
  # typeshed lacks this attribute of CPython.
  return os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]


@functools.cache
def mounts() -> tuple[list[str], tuple[str, ...]]:
  """(paths to show, folders in them to hide), for bubblewrap."""
  system = '/lib', '/lib64', '/usr/lib', '/usr/lib64'
  shown = existing(*system, *_library_folders(), *_standard_library(), *FILES)
  hidden = []
  for folder in shown:
    for name in INSTALLED:
      paths = glob.glob(f'{folder}/{name}')
      paths += glob.glob(f'{folder}/python*/{name}')
      hidden += [path for path in paths if os.path.realpath(path) == path]
  prefixes = tuple(f'{path}/' for path in shown)
  outermost = [path for path in shown if not path.startswith(prefixes)]
  return outermost, tuple(dict.fromkeys(hidden))


@functools.cache
def landlock_paths() -> tuple[tuple[str, ...], tuple[str, ...]]:
  """(paths to read with all below them, folders to list).

  Landlock cannot hide a folder below a readable one.
  """
  multiarch = sysconfig.get_config_var('MULTIARCH') or ''
  readable, listed = ['/usr/lib/locale', *FILES], []
  for folder in ('/lib', '/usr/lib'):
    path = os.path.join(folder, multiarch)
    if multiarch and os.path.isdir(path):
      readable.append(path)
    else:
      readable += _without_installed(folder)
  for folder in ('/lib64', '/usr/lib64'):
    readable += _without_installed(folder)
  for folder in _library_folders():
    readable += glob.glob(f'{glob.escape(folder)}/lib*.so*')
  for folder in _standard_library():
    listed.append(folder)
    paths = _without_installed(folder)
    readable += [path for path in paths if not _has_bytecode(path)]
  return (
    existing(*map(os.path.realpath, readable)),
    existing(*map(os.path.realpath, listed)),
  )


def existing(*paths: str) -> tuple[str, ...]:
  """The paths that exist, each once."""
  return tuple(dict.fromkeys(x for x in paths if os.path.exists(x)))


def _standard_library():
  prefixes = dict(
    base=sys.base_prefix,
    platbase=sys.base_exec_prefix,
    installed_base=sys.base_prefix,
    installed_platbase=sys.base_exec_prefix,
  )
  paths = sysconfig.get_paths(vars=prefixes)
  return existing(paths['stdlib'], paths['platstdlib'])


def _library_folders():
  """The folders of the shared libraries that belong to this Python."""
  return existing(
    os.path.join(sys.base_prefix, 'lib'),
    sysconfig.get_config_var('LIBDIR') or '',
  )


def _without_installed(folder):
  """[folder], or its contents except for folders of Python and of installed
  packages if it has any."""
  has_packages = any(
    os.path.isdir(os.path.join(folder, name)) for name in INSTALLED
  )
  if not has_packages and not glob.glob(f'{folder}/python*/'):
    return [folder]
  found = []
  for name in sorted(os.listdir(folder)):
    path = os.path.join(folder, name)
    if name.startswith('python') and os.path.isdir(path):
      continue
    if name not in INSTALLED:
      found.append(path)
  return found


def _has_bytecode(path):
  """Whether a module can be imported without reading its source."""
  return path.endswith('.py') and os.path.exists(
    importlib.util.cache_from_source(path)
  )
