"""The files that a Python program may read: the standard library, the system's
shared libraries and time zones, but no installed packages, which may contain
the tests and solutions of a benchmark."""

import functools
import glob
import importlib.util
import os
import sys
import sysconfig

INSTALLED = 'site-packages', 'dist-packages'
SYSTEM = '/lib', '/lib64', '/usr/lib', '/usr/lib64'
FILES = '/usr/share/zoneinfo', '/etc/ld.so.cache', '/etc/localtime'
DEVICES = '/dev/null', '/dev/zero', '/dev/urandom'


def interpreter() -> str:
  """The path of the Python on which a virtual environment is based."""
  # typeshed lacks this attribute of CPython.
  return os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]


@functools.cache
def mounts() -> tuple[list[str], tuple[str, ...]]:
  """(paths to show, folders in them to hide), for bubblewrap."""
  shown = existing(*SYSTEM, *_library_folders(), *_standard_library(), *FILES)
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
  readable, listed = ['/usr/lib/locale', *FILES], _standard_library()
  for folder in SYSTEM:
    path = os.path.join(folder, multiarch)
    if multiarch and os.path.isdir(path):
      readable.append(path)
    else:
      readable += _without_installed(folder)
  for folder in _library_folders():
    readable += glob.glob(f'{glob.escape(folder)}/lib*.so*')
  for folder in listed:
    for path in _without_installed(folder):
      bytecode = importlib.util.cache_from_source(path)
      if not path.endswith('.py') or not os.path.exists(bytecode):
        readable.append(path)  # the source is not needed beside its bytecode
  paths = existing(*map(os.path.realpath, readable))
  return paths, existing(*map(os.path.realpath, listed))


def existing(*paths: str) -> tuple[str, ...]:
  """The paths that exist, each once."""
  return tuple(dict.fromkeys(x for x in paths if os.path.exists(x)))


def _standard_library():
  # In a virtual environment, the default would be the environment's.
  paths = sysconfig.get_paths(vars=dict(platbase=sys.base_exec_prefix))
  return existing(paths['stdlib'], paths['platstdlib'])


def _library_folders():
  """The folders of the shared libraries that belong to this Python."""
  folder = sysconfig.get_config_var('LIBDIR') or ''
  return existing(os.path.join(sys.base_prefix, 'lib'), folder)


def _without_installed(folder):
  """[folder], or its contents except for folders of Python and of installed
  packages if it has any."""
  names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
  found = []
  for name in names:
    path = os.path.join(folder, name)
    is_python = name.startswith('python') and os.path.isdir(path)
    if name not in INSTALLED and not is_python:
      found.append(path)
  return found if len(found) < len(names) else [folder]
