"""Finds arguments of tests that cannot be sent to the sandbox."""

import ast
import builtins
import importlib
from typing import NamedTuple

from r1jax.rewards.code import probe
from r1jax.sandbox import environment, wire

PLAIN = tuple(wire.KINDS)
CONTAINERS = ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred, ast.IfExp
ITERATORS = 'iter', 'open'  # functions whose results cannot be sent either


def problem(code: str, head: str, names: set[str]) -> str:
  """The first argument that a test passes to a function of one of the names
  although it is no plain value, '' if there is none. What the text of the test
  does not show is found by a probe, if the record defines classes."""
  nodes = [*ast.walk(ast.parse(head)), *ast.walk(ast.parse(code))]
  names_of = _Names(
    classes={x.name: x for x in nodes if isinstance(x, ast.ClassDef)},
    functions={x.name for x in nodes if isinstance(x, ast.FunctionDef)},
    imported=_imported(nodes),
  )
  is_clear = True
  for node in nodes:
    if isinstance(node, ast.Call) and _name(node.func) in names:
      for value in [*node.args, *[x.value for x in node.keywords]]:
        if _is_foreign(value, names_of):
          return ast.unparse(value)[:60]
        is_clear = is_clear and _is_literal(value)
  if is_clear or not names_of.classes:
    return ''
  kind = probe.problem(code, head, names)
  return f'an object of the type {kind}' if kind else ''


def _is_literal(value):
  try:
    ast.literal_eval(value)
  except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
    return False
  return True


class _Names(NamedTuple):
  """What names mean: {name: class}, functions, {name: (module, attribute)}."""

  classes: dict[str, ast.ClassDef]
  functions: set[str]
  imported: dict[str, tuple[str, str]]


def _imported(nodes):
  found = {}
  for node in nodes:
    if isinstance(node, ast.Import):
      for x in node.names:
        found[x.asname or x.name] = x.name, ''
    elif isinstance(node, ast.ImportFrom):
      for x in node.names:
        found[x.asname or x.name] = node.module or '', x.name
        if x.name == '*' and node.module in environment.MODULES:
          module = importlib.import_module(node.module)
          for name in getattr(module, '__all__', dir(module)):
            found[name] = node.module, name
  return found


def _name(function):
  """The last name of the function of a call."""
  if isinstance(function, ast.Attribute):
    return function.attr
  return function.id if isinstance(function, ast.Name) else ''


def _is_foreign(value, names):
  """Whether an expression is certainly no plain value."""
  if isinstance(value, (ast.Lambda, ast.GeneratorExp)):
    return True
  if isinstance(value, ast.Name):
    is_builtin = callable(getattr(builtins, value.id, None))
    return value.id in names.functions or is_builtin
  if isinstance(value, ast.Call):
    return _makes_foreign(value.func, names)
  if isinstance(value, CONTAINERS):
    return any(_is_foreign(x, names) for x in ast.iter_child_nodes(value))
  return False


def _makes_foreign(function, names):
  """Whether a call of the function makes an object that is no plain value."""
  name = _name(function)
  if isinstance(function, ast.Name) and name in names.classes:
    bases = [_name(x) for x in names.classes[name].bases]
    return not any(_is_plain_class(x) for x in bases)
  kind = _library_object(function, names.imported)
  if isinstance(kind, type):
    return not issubclass(kind, PLAIN)
  return kind is not None and name in ITERATORS


def _is_plain_class(name):
  kind = getattr(builtins, name, None)
  is_plain = isinstance(kind, type) and issubclass(kind, PLAIN)
  return is_plain or name in ('NamedTuple', 'IntEnum', 'Counter', 'defaultdict')


def _library_object(function, imported):
  """What a name, or MODULE.NAME, means in the standard library; None if it is
  none of these."""
  if isinstance(function, ast.Name):
    if function.id not in imported:
      return getattr(builtins, function.id, None)
    module, attribute = imported[function.id]
  elif isinstance(function, ast.Attribute):
    module, _ = imported.get(_name(function.value), ('', ''))
    attribute = function.attr
  else:
    return None
  if module not in environment.MODULES or not attribute:
    return None
  return getattr(importlib.import_module(module), attribute, None)
