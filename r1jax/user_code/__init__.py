"""The user's own functions and records, by the names that config keys hold:
'FILE.py:NAME', 'package.module:NAME', or 'python:NAME@DIGEST' for what was
given in Python."""

import ast
import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import sys
import textwrap
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from r1jax import errors, experiment_files, files
from r1jax.user_code import source_digest

PACKAGE = Path(__file__).parents[1]
PYTHON = 'python:'  # starts the name of an object that was given in Python
RECORD_MAKERS = 'toy', 'gym'  # of data/tasks.py; they are no modules
# The objects given in Python, by name. Config keys hold the names, so that a
# config stays text.
_given: dict[str, Any] = {}


def is_name(text: str) -> bool:
  """Whether a text has the form of a name of user code."""
  if text in _given or text.startswith(PYTHON):
    return True
  place, _, name = text.rpartition(':')
  if place in RECORD_MAKERS:
    return False
  is_place = place.endswith('.py') or _is_dotted(place)
  return is_place and _is_dotted(name)


def short_name(name: str) -> str:
  """NAME alone, as metrics and tables show it; other texts as they are."""
  if not is_name(name):
    return name
  return name.rpartition(':')[2].partition('@')[0]


def shown_name(name: str) -> str:
  """The name in errors: NAME alone of an object given in Python."""
  return short_name(name) if name.startswith(PYTHON) else name


def lookup(table: Mapping[str, Any], name: str, key: str) -> Any:
  """The entry of a table of the package's own objects, or the user's object.
  Raises UserError as `load` does."""
  if name in table:
    return table[name]
  if ':' not in name and not name.endswith('.py'):
    raise errors.UserError(
      f'{key} is {name!r}; it can be {", ".join(table)}, or your own as '
      'FILE.py:NAME'
    )
  return load(name, key)


def load(name: str, key: str) -> Any:
  """The object of a name. `key` is the config key that holds it, for errors.
  Raises UserError if there is no such file, module or object, or if its module
  cannot be imported."""
  if name in _given:
    return _given[name]
  files.check_local(name, key)
  place, colon, attribute = name.rpartition(':')
  if name.startswith(PYTHON):
    raise errors.UserError(
      f'{key} is {name!r}, which an earlier process was given in Python: give '
      'it again in Python, or put it into a file and name it FILE.py:NAME'
    )
  if not colon or not _is_dotted(attribute):
    raise errors.UserError(
      f'{key} is {name!r}: to name your own code, write FILE.py:NAME or '
      f'package.module:NAME{_defined_in(Path(name))}'
    )
  module = _module(place, key)
  found: Any = module
  for part in attribute.split('.'):
    if part not in dir(found):
      names = [x for x in vars(module) if not x.startswith('_')]
      near = difflib.get_close_matches(part, names, 1)
      hint = f'did you mean {near[0]}' if near else f'it has {", ".join(names)}'
      raise errors.UserError(f'{key}: {place} has no {attribute!r}; {hint}')
    found = getattr(found, part)
  return found


def name_of(value: Any) -> str:
  """The name of a function, an object or a list of records, for a config key.
  An object that can be imported is named by its module, every other by its name
  and a digest of its source or content; this process can then load it."""
  path = source_digest.import_path(value)
  if path:
    return path
  digest = source_digest.of_object(value)
  own_name = 'records' if isinstance(value, list) else _own_name(value)
  if own_name in ('records', '<lambda>'):  # A run may have several.
    own_name = f'{own_name.strip("<>")}_{digest[:6]}'
  name = f'{PYTHON}{own_name}@{digest}'
  _given[name] = value
  return name


def needs_name(value: Any) -> bool:
  """Whether a config key must hold the value by name: functions and other
  callables, tools, lists of records, and named tuples such as optax
  transformations."""
  if isinstance(value, list):
    return bool(value) and isinstance(value[0], dict)
  is_named_tuple = isinstance(value, tuple) and type(value) is not tuple
  return callable(value) or is_named_tuple or 'call' in dir(value)


def digests(names: Iterable[str]) -> dict[str, str]:
  """{file, module or python:NAME: digest of the source} of some names, as this
  process has loaded them. The source is that of the file and of all files of
  its folder, or its package, that it imports."""
  found = {}
  for name in names:
    place, _, _ = name.rpartition(':')
    if name.startswith(PYTHON):
      place, _, digest = name.rpartition('@')
      found[place] = digest
    else:
      _module(place, name)
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


def without_digest(name: str) -> str:
  """python:NAME of python:NAME@DIGEST; other texts as they are."""
  return name.partition('@')[0] if name.startswith(PYTHON) else name


def check_call(
  function: Any,
  name: str,
  key: str,
  form: str,
  options: Iterable[str] = (),
  options_key: str = '',
) -> None:
  """Raises UserError unless the function can be called with the positional
  arguments of `form`, such as '(records, texts) -> numbers', and with keyword
  arguments `options`, which are those of the config key options_key."""
  name, expected = shown_name(name), f'expected a function {form}'
  if options_key:
    names = ', '.join(options) or 'none'
    expected += f' that also takes the options of {options_key} ({names})'
  if not callable(function):
    raise errors.UserError(f'{key}: {name} is {describe(function)}; {expected}')
  arguments = form.partition('(')[2].partition(')')[0].split(', ')
  try:
    inspect.signature(function).bind(*arguments, **dict.fromkeys(options))
  except TypeError as error:
    raise errors.UserError(
      f'{key}: {name} has the parameters {inspect.signature(function)}; '
      f'{expected}: {error}'
    ) from None
  except ValueError:  # Some built-in functions have no signature.
    return


def failure(sentence: str, error: BaseException) -> errors.UserError:
  """A UserError with the sentence and, below it, the traceback of the error
  from its first frame outside r1jax."""
  frames: list = traceback.extract_tb(error.__traceback__)
  inside = [PACKAGE in Path(frame.filename).parents for frame in frames]
  if not all(inside):
    frames = frames[inside.index(False) :]
  lines = [
    'Traceback (most recent call last):\n',
    *traceback.format_list(frames),
  ]
  lines += traceback.format_exception_only(error)
  return errors.UserError(f'{sentence}\n{"".join(lines).rstrip()}')


def describe(value: Any) -> str:
  """A value that user code returned, in at most 60 characters, for errors."""
  return f'{type(value).__name__} {textwrap.shorten(repr(value), 60)}'


def _is_dotted(text):
  return all(part.isidentifier() for part in text.split('.'))


def _defined_in(path):
  """The end of an error about a file without a name: what the file defines."""
  if path.suffix != '.py' or not path.is_file():
    return ''
  try:
    nodes = ast.parse(path.read_bytes()).body
  except (SyntaxError, ValueError):
    return ''
  kinds = ast.FunctionDef, ast.ClassDef
  names = [x.name for x in nodes if isinstance(x, kinds)]
  return f', e.g. {path}:{names[0]}' if names else ''


class _Loaded(NamedTuple):
  module: ModuleType
  digest: str  # of its source when it was imported


# The modules of user code by file or name. A run keeps those that it began with.
_loaded: dict[str, _Loaded] = {}


def _identity(place):
  if not place.endswith('.py'):
    return place
  return str(experiment_files.find(place).resolve())


def _module(place, key):
  """The module of a file or of a dotted name, imported once."""
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
    raise failure(f'{key}: cannot import {name}', error) from error
  except (Exception, SystemExit) as error:
    raise failure(f'{key}: cannot import {name}', error) from error


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
    raise failure(f'{key}: the file {path} cannot be run', error) from error
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


def _own_name(value):
  if isinstance(value, functools.partial):
    return _own_name(value.func)
  return value.__name__ if '__name__' in dir(value) else type(value).__name__
