"""The files that a Python program may read: the standard library, the system's
shared libraries, time zones and numpy, but no other installed packages, which
may contain the tests and solutions of a benchmark."""

import functools
import glob
import importlib.util
import os
import re
import sys
import sysconfig

PACKAGES = ('numpy',)
INSTALLED = 'site-packages', 'dist-packages'
PYTHON = re.compile(r'python(\d[\d.]*)?')
SYSTEM = '/lib', '/lib64', '/usr/lib', '/usr/lib64'
FILES = '/usr/share/zoneinfo', '/etc/ld.so.cache', '/etc/localtime'
DEVICES = '/dev/null', '/dev/zero', '/dev/urandom'


def interpreter() -> str:
  """The path of the Python on which a virtual environment is based."""
  # typeshed lacks this attribute of CPython.
  return os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]


@functools.cache
def packages() -> dict[str, str]:
  """{name: path of its __init__.py} of the PACKAGES that are installed here."""
  found = {}
  for name in PACKAGES:
    spec = importlib.util.find_spec(name)
    if spec and spec.origin and spec.origin.endswith('__init__.py'):
      found[name] = os.path.realpath(spec.origin)
  return found


def package_folders() -> tuple[str, ...]:
  """The folders of the packages, and of their own shared libraries."""
  folders = [os.path.dirname(path) for path in packages().values()]
  return existing(*folders, *[f'{folder}.libs' for folder in folders])


@functools.cache
def mounts() -> tuple[list[str], tuple[str, ...]]:
  """(paths to show, folders in them to hide), for bubblewrap."""
  multiarch = sysconfig.get_config_var('MULTIARCH') or ''
  shown = []
  for folder in SYSTEM:
    path = os.path.join(folder, multiarch)
    is_link = os.path.islink(folder)  # into another of these folders
    shown.append(path if os.path.isdir(path) and not is_link else folder)
  for folder in _library_folders():
    shown += sorted(glob.glob(f'{glob.escape(folder)}/lib*.so*'))
  shown = [*existing(*shown, *_standard_library(), *FILES)]
  prefixes = tuple(f'{path}/' for path in shown if not os.path.islink(path))
  outermost = [path for path in shown if not path.startswith(prefixes)]
  hidden = []
  for folder in outermost:
    if os.path.isdir(folder) and not os.path.islink(folder):
      hidden += _installed_below(folder)
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
  readable += package_folders()
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


def _installed_below(folder):
  """The outermost folders of Python and of installed packages in a folder, at
  any depth."""
  found = []
  for path, names, _ in os.walk(folder):
    found += [os.path.join(path, name) for name in names if _is_python(name)]
    names[:] = [name for name in names if not _is_python(name)]
  return found


def _without_installed(folder):
  """[folder], or its contents except for folders of Python and of installed
  packages if it has any, at any depth."""
  if not os.path.isdir(folder):
    return []
  if not _installed_below(folder):
    return [folder]
  found = []
  for name in sorted(os.listdir(folder)):
    path = os.path.join(folder, name)
    if not os.path.isdir(path):
      found.append(path)
    elif not os.path.islink(path) and not _is_python(name):
      found += _without_installed(path)
  return found


def _is_python(name):
  """Whether a folder of that name has installed packages, or may have them."""
  return name in INSTALLED or PYTHON.fullmatch(name) is not None
