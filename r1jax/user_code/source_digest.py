"""Digests of user code: of files with what they import from their folder, of
modules with what they import from their package, and of objects given in
Python. They do not depend on the process or on where the files are."""

import ast
import functools
import hashlib
import inspect
import json
import pkgutil
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = Path(__file__).parents[1]
# Code in these folders belongs to Python or to an installed package.
KINDS = 'stdlib', 'purelib', 'platlib'
INSTALLED = [Path(sysconfig.get_path(kind)) for kind in KINDS]
SCALARS = str | bytes | int | float | complex | bool
FILE_MODULE = (
  '_r1jax_user_code_'  # starts the name of a module made from a file
)


def of_facts(facts: Any) -> str:
  """The digest of JSON."""
  text = json.dumps(facts, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def of_module(module: types.ModuleType) -> str:
  """The digest of the source of a module and of what it imports; 'built-in' if
  it has none."""
  texts = {}
  for n, path in enumerate(sources_of(module)):
    # The first is the module's own. Its folder is not part of the digest.
    name = str(path.relative_to(_root(module))) if n else ''
    texts[name] = path.read_text(errors='replace')
  return of_facts(texts) if texts else 'built-in'


def sources_of(module: types.ModuleType) -> list[Path]:
  """The file of a module and those that it imports from its folder, if it was
  made from a file, or else from its top-level package; the file alone if the
  package is installed."""
  path = Path(vars(module).get('__file__') or '').resolve()
  if path.suffix != '.py':
    return []
  if any(folder in path.parents for folder in INSTALLED):
    return [path]
  return sources(path, _root(module))


def of_object(value: Any) -> str:
  """The digest of records, or of a function: its source, that of the functions
  that it calls and that cannot be imported, and the values that it uses; of an
  object, its class and its attributes."""
  return of_facts(_facts(value, frozenset()))


def sources(path: Path, root: Path) -> list[Path]:
  """The file and all files below `root` that it imports, directly or not."""
  found: list[Path] = []
  new = [path]
  while new:
    file = new.pop()
    if file in found or not file.is_file() or PACKAGE in file.parents:
      continue
    found.append(file)
    for name in _imports(file, root):
      base = root.joinpath(*name.split('.'))
      new += [base.with_suffix('.py'), base / '__init__.py']
      # Importing a module runs the __init__.py of the packages around it.
      depth = name.count('.')
      new += [base.parents[n] / '__init__.py' for n in range(depth)]
  return found


def import_path(value: Any) -> str:
  """module:qualname if that names the object in every process, else ''."""
  if '__qualname__' not in dir(value) or '__module__' not in dir(value):
    return ''
  module, name = value.__module__, value.__qualname__
  if not module or module == '__main__' or module.startswith(FILE_MODULE):
    return ''
  if not all(part.isidentifier() for part in f'{module}.{name}'.split('.')):
    return ''
  try:
    found = pkgutil.resolve_name(f'{module}:{name}')
  except (ImportError, AttributeError):
    return ''
  return f'{module}:{name}' if found is value else ''


def _root(module):
  """The folder that imports are looked for in."""
  path, name = Path(vars(module)['__file__']).resolve(), module.__name__
  if name.startswith(FILE_MODULE):
    return path.parent
  return path.parents[name.count('.') + (path.name == '__init__.py')]


def _imports(file, root) -> Iterator[str]:
  """The names that a file imports, which may be modules or parts of them."""
  try:
    tree = ast.parse(file.read_text(errors='replace'))
  except (SyntaxError, ValueError):  # The import itself reports it.
    return
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      parts = [node.module] if node.module else []
      if node.level:
        parts = [*file.relative_to(root).parts[: -node.level], *parts]
      if parts:
        yield '.'.join(parts)
      yield from ('.'.join([*parts, alias.name]) for alias in node.names)


def _facts(value, seen):
  """JSON that tells a value from others of its kind. `seen` has the ids of the
  objects around it, which are not described again."""
  if value is None or isinstance(value, SCALARS):
    return value if isinstance(value, str) else repr(value)
  if isinstance(value, types.ModuleType) or id(value) in seen:
    return ''
  seen = seen | {id(value)}
  if isinstance(value, Mapping):
    pairs = [[_facts(x, seen) for x in pair] for pair in value.items()]
    return sorted(pairs, key=json.dumps)
  if isinstance(value, set | frozenset):
    return sorted((_facts(x, seen) for x in value), key=json.dumps)
  if isinstance(value, list | tuple):
    return [_facts(x, seen) for x in value]
  if isinstance(value, functools.partial):
    parts = value.func, value.args, value.keywords
    return [_facts(x, seen) for x in parts]
  if isinstance(value, types.MethodType):
    return [_facts(x, seen) for x in (value.__func__, value.__self__)]
  path = import_path(value)
  if path:
    return path
  if isinstance(value, type):
    return _source(value)
  function = inspect.unwrap(value) if callable(value) else value
  if isinstance(function, types.FunctionType):
    return _function_facts(function, seen)
  if isinstance(value, np.ndarray | np.generic) or '__array__' in dir(value):
    array = np.asarray(value)
    digest = hashlib.blake2b(array.tobytes(), digest_size=6).hexdigest()
    return [str(array.dtype), array.shape, digest]
  attributes = vars(value) if '__dict__' in dir(value) else {}
  return [_source(type(value)), _facts(attributes, seen)]


def _function_facts(function, seen):
  """The source of a function, its defaults, and what it uses by name."""
  facts = [_source(function), _facts(function.__defaults__, seen)]
  if function.__name__ == '<lambda>':  # The line may have several.
    facts.append(_code(function))
  scope = inspect.getclosurevars(function)
  for name, used in sorted({**scope.globals, **scope.nonlocals}.items()):
    facts.append([name, _facts(used, seen)])
  return facts


def _source(value):
  """The source of a class or a function, or its name if there is none."""
  try:
    return inspect.getsource(value)
  except (OSError, TypeError):
    if isinstance(value, types.FunctionType):
      return _code(value)
    return f'{value.__module__}.{value.__qualname__}'


def _code(function):
  code = function.__code__
  return f'{code.co_code.hex()} {code.co_names} {code.co_consts}'
