"""The modules of user code, each imported once, with digests of their source."""

import contextlib
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from r1jax import errors, experiment_files
from r1jax.user_code import calls, object_names, source_digest


class _Loaded(NamedTuple):
  module: ModuleType
  digest: str  # of its source when it was imported


# The modules of user code by file or name. A run keeps those that it began with.
_loaded: dict[str, _Loaded] = {}


def imported(place: str, key: str) -> ModuleType:
  """The module of a file or of a dotted name, imported once. `key` is the config
  key that holds it. Raises UserError if it cannot be imported."""
  identity = _identity(place)
  if identity not in _loaded:
    is_file = place.endswith('.py')
    module = (
      _from_file(experiment_files.find(place), key)
      if is_file
      else _import(place, key)
    )
    digest = source_digest.of_module(module)
    _loaded[identity] = _Loaded(module, digest)
  return _loaded[identity].module


def digests(names: Iterable[str]) -> dict[str, str]:
  """{file, module or python:NAME: digest of the source} of some names, as this
  process has loaded them. The source is that of the file and of all files of
  its folder, or its package, that it imports."""
  found = {}
  for name in names:
    place, _, _ = name.rpartition(':')
    if name.startswith(object_names.PYTHON):
      place, _, digest = name.rpartition('@')
      found[place] = digest
    else:
      imported(place, name)
      found[place] = _loaded[_identity(place)].digest
  return found


def refresh(names: Iterable[str]) -> None:
  """Forgets the modules of names whose source has changed, so that they are
  imported anew. A run calls it once, before it loads its functions."""
  for name in names:
    place, _, _ = name.rpartition(':')
    loaded = _loaded.get(_identity(place))
    if loaded and source_digest.of_module(loaded.module) != loaded.digest:
      _forget(loaded.module)
      del _loaded[_identity(place)]


def _identity(place):
  if not place.endswith('.py'):
    return place
  return str(experiment_files.find(place).resolve())


def _forget(module):
  """Removes a module of the user's, and what it imports from its folder or
  package, from those that Python has imported."""
  paths = {str(path) for path in source_digest.sources_of(module)}
  for name, other in list(sys.modules.items()):
    is_module = isinstance(other, ModuleType)
    if is_module and vars(other).get('__file__') in paths:
      del sys.modules[name]


def _import(name, key):
  try:
    importlib.invalidate_caches()
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    if error.name and f'{name}.'.startswith(f'{error.name}.'):
      raise errors.UserError(
        f'{key}: there is no module {name} that Python can import here: '
        'install its package, run in its folder, or name a file FILE.py:NAME'
      ) from None
    raise calls.failure(f'{key}: cannot import {name}', error) from error
  except (Exception, SystemExit) as error:
    raise calls.failure(f'{key}: cannot import {name}', error) from error


def _from_file(path, key):
  """The module of a Python file, under a name that no other file has."""
  if not path.is_file():
    folder = path.parent if path.parent.is_dir() else Path('.')
    names = [str(x) for x in folder.glob('*.py')]
    near = difflib.get_close_matches(str(path), names, 1)
    hint = f': did you mean {near[0]}?' if near else ''
    raise errors.UserError(
      f'{key}: there is no file {path} (in {Path.cwd()}){hint}'
    )
  path = path.resolve()
  digest = source_digest.of_facts(str(path))
  name = f'{source_digest.FILE_MODULE}{path.stem}_{digest}'
  importlib.invalidate_caches()
  spec = importlib.util.spec_from_file_location(name, path)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  try:
    with _own_folder_first(path):
      spec.loader.exec_module(module)
  except BaseException as error:
    del sys.modules[name]
    if not isinstance(error, Exception | SystemExit):
      raise
    raise calls.failure(
      f'{key}: the file {path} cannot be run', error
    ) from error
  return module


@contextlib.contextmanager
def _own_folder_first(path):
  """Within this context the imports of a file find those in its folder, even if
  a module of the same name is imported from elsewhere."""
  folder = str(path.parent)
  own_names = {
    x.relative_to(folder).with_suffix('').parts[0]
    for x in source_digest.sources(path, path.parent)
  }
  others = {}
  for name, module in list(sys.modules.items()):
    is_module = isinstance(module, ModuleType)
    if name.partition('.')[0] in own_names and is_module:
      file = vars(module).get('__file__') or ''
      if Path(folder) not in Path(file).parents:
        others[name] = sys.modules.pop(name)
  sys.path.insert(0, folder)
  try:
    yield
  finally:
    sys.path.remove(folder)
    if folder not in sys.path:
      sys.path.append(folder)  # for imports within functions
    sys.modules.update(others)
