"""What a Python program needs to read of this machine: the standard library,
the system's shared ones, time zones; never an installed package, for those may
hold the tests and solutions of a benchmark."""

import functools
import glob
import importlib.util
import os
import sys
import sysconfig

INSTALLED = 'site-packages', 'dist-packages'
FILES = '/usr/share/zoneinfo', '/etc/ld.so.cache', '/etc/localtime'
DEVICES = '/dev/null', '/dev/zero', '/dev/urandom'


def interpreter():
  """The real Python behind a virtual environment."""
  return os.path.realpath(sys._base_executable)


@functools.cache
def trees():
  """(folders to show, folders in them to hide), where mounts can do so."""
  shown = existing(
    '/lib',
    '/lib64',
    '/usr/lib',
    '/usr/lib64',
    *_python_libraries(),
    *_standard(),
    *FILES,
  )
  hidden = [
    path
    for tree in shown
    for name in INSTALLED
    for beneath in ('', 'python*/')
    for path in glob.glob(f'{tree}/{beneath}{name}')
    if os.path.realpath(path) == path
  ]
  apart = [x for x in shown if not any(x.startswith(f'{y}/') for y in shown)]
  return apart, tuple(dict.fromkeys(hidden))


@functools.cache
def pieces():
  """(paths to read with all below, folders to list), where nothing below a
  path can be hidden."""
  multiarch = sysconfig.get_config_var('MULTIARCH') or ''
  read, listed = ['/usr/lib/locale', *FILES], []
  for tree in ('/lib', '/usr/lib'):
    beneath = os.path.join(tree, multiarch)
    read += [beneath] if multiarch and os.path.isdir(beneath) else _around(tree)
  for tree in ('/lib64', '/usr/lib64'):
    read += _around(tree)
  for tree in _python_libraries():
    read += glob.glob(f'{glob.escape(tree)}/lib*.so*')
  for tree in _standard():
    listed.append(tree)
    read += [x for x in _around(tree) if not _is_cached(x)]
  return (
    existing(*map(os.path.realpath, read)),
    existing(*map(os.path.realpath, listed)),
  )


def existing(*paths):
  return tuple(dict.fromkeys(x for x in paths if os.path.exists(x)))


def _standard():
  """Folders of the standard library."""
  paths = sysconfig.get_paths(
    vars=dict(
      base=sys.base_prefix,
      platbase=sys.base_exec_prefix,
      installed_base=sys.base_prefix,
      installed_platbase=sys.base_exec_prefix,
    )
  )
  return existing(paths['stdlib'], paths['platstdlib'])


def _python_libraries():
  """Folders of the shared libraries that came with this Python."""
  return existing(
    os.path.join(sys.base_prefix, 'lib'),
    sysconfig.get_config_var('LIBDIR') or '',
  )


def _around(tree):
  """What stands in a folder, without installed packages."""
  if not glob.glob(f'{tree}/python*/') and not any(
    os.path.isdir(os.path.join(tree, name)) for name in INSTALLED
  ):
    return [tree]
  found = []
  for name in sorted(os.listdir(tree)):
    path = os.path.join(tree, name)
    if name.startswith('python') and os.path.isdir(path):
      continue
    if name not in INSTALLED:
      found.append(path)
  return found


def _is_cached(path):
  """Whether a module's source need not be read, for its bytecode is there."""
  return path.endswith('.py') and os.path.exists(
    importlib.util.cache_from_source(path)
  )
