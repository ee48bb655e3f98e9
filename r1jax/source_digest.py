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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
# Code in these folders belongs to Python or to an installed package.
INSTALLED = [Path(sysconfig.get_path(x)) for x in ('stdlib', 'purelib')]
FILE_MODULE = (
  '_r1jax_user_code_'  # starts the name of a module made from a file
)


def of_facts(facts: Any) -> str:
  """The digest of JSON."""
  text = json.dumps(facts, sort_keys=True)
  return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def of_file(path: Path) -> str:
  """The digest of a file and of what it imports from its folder."""
  return _of_sources(path.resolve(), path.resolve().parent)


def of_module(module: types.ModuleType) -> str:
  """The digest of a module and of what it imports from its top-level package;
  of its file alone if the package is installed."""
  path = Path(vars(module).get('__file__') or '')
  if path.suffix != '.py':
    return 'built-in'
  if any(folder in path.parents for folder in INSTALLED):
    return of_facts([path.read_text()])
  depth = module.__name__.count('.') + (path.name == '__init__.py')
  return _of_sources(path.resolve(), path.resolve().parents[depth])


def of_object(value: Any) -> str:
  """The digest of records, or of the source of a function, of the functions of
  its module that it calls, and of the constants that it uses."""
  return of_facts(_facts(value, set()))


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


def _of_sources(path, root):
  texts = {}
  for source in sources(path, root):
    texts[str(source.relative_to(root))] = source.read_text(errors='replace')
  return of_facts(texts)


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
  if isinstance(value, functools.partial):
    return [*_facts(value.func, seen), _text([value.args, value.keywords])]
  if isinstance(value, list | tuple):
    return [_text(value)]
  function = inspect.unwrap(value) if callable(value) else value
  if not isinstance(function, types.FunctionType):
    return [_source(function if isinstance(function, type) else type(function))]
  if function in seen:
    return []
  seen.add(function)
  facts = [_source(function), _text(function.__defaults__)]
  scope = inspect.getclosurevars(function)
  for name, used in sorted({**scope.globals, **scope.nonlocals}.items()):
    if isinstance(used, types.FunctionType):
      facts += [] if import_path(used) else _facts(used, seen)
    elif not isinstance(used, types.ModuleType):
      facts.append(f'{name} = {_text(used)}')
  return facts


def _text(value):
  """Data as JSON; of any other object its type alone."""
  try:
    return json.dumps(value, sort_keys=True, default=_describe)
  except (TypeError, ValueError):  # keys of several types, circles
    return type(value).__name__


def _describe(value):
  if isinstance(value, set | frozenset):
    return sorted(map(repr, value))
  return type(value).__name__


def _source(value):
  """The source of a class or a function, or its name if there is none."""
  try:
    return inspect.getsource(value)
  except (OSError, TypeError):
    if isinstance(value, types.FunctionType):
      return value.__code__.co_code.hex() + _text(value.__code__.co_consts)
    return f'{value.__module__}.{value.__qualname__}'
