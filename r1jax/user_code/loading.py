"""The objects that names of user code stand for."""

import ast
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1jax import errors, files
from r1jax.user_code import modules, object_names


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
  if name in object_names.given:
    return object_names.given[name]
  files.check_local(name, key)
  place, colon, attribute = name.rpartition(':')
  if name.startswith(object_names.PYTHON):
    raise errors.UserError(
      f'{key} is {name!r}, which an earlier process was given in Python: give '
      'it again in Python, or put it into a file and name it FILE.py:NAME'
    )
  if not colon or not object_names.is_dotted(attribute):
    raise errors.UserError(
      f'{key} is {name!r}: to name your own code, write FILE.py:NAME or '
      f'package.module:NAME{_defined_in(Path(name))}'
    )
  module = modules.imported(place, key)
  found: Any = module
  for part in attribute.split('.'):
    if part not in dir(found):
      names = [x for x in vars(module) if not x.startswith('_')]
      near = difflib.get_close_matches(part, names, 1)
      hint = f'did you mean {near[0]}' if near else f'it has {", ".join(names)}'
      raise errors.UserError(f'{key}: {place} has no {attribute!r}; {hint}')
    found = getattr(found, part)
  return found


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
