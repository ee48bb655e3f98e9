"""Finds arguments of tests that cannot be sent to the sandbox."""

import ast
import builtins
import importlib

from r1jax.sandbox import environment, wire

PLAIN = tuple(wire.KINDS)
CONTAINERS = ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred, ast.IfExp
ITERATORS = 'iter', 'open'  # functions whose results cannot be sent either


def problem(code: str, head: str, names: set[str]) -> str:
  """The first argument that a test passes to a function of one of the names
  although it is no plain value, '' if there is none. Only what the text of the
  test shows is found."""
  tree, before = ast.parse(code), ast.parse(head)
  defined = [*ast.walk(before), *ast.walk(tree)]
  classes = {x.name: x for x in defined if isinstance(x, ast.ClassDef)}
  functions = {x.name for x in defined if isinstance(x, ast.FunctionDef)}
  for node in ast.walk(tree):
    if isinstance(node, ast.Call) and _name(node.func) in names:
      for value in [*node.args, *[x.value for x in node.keywords]]:
        if _is_foreign(value, classes, functions):
          return ast.unparse(value)[:60]
  return ''


def _name(function):
  """The last name of the function of a call."""
  if isinstance(function, ast.Attribute):
    return function.attr
  return function.id if isinstance(function, ast.Name) else ''


def _is_foreign(value, classes, functions):
  """Whether an expression is certainly no plain value."""
  if isinstance(value, (ast.Lambda, ast.GeneratorExp)):
    return True
  if isinstance(value, ast.Name):
    return value.id in functions or callable(getattr(builtins, value.id, None))
  if isinstance(value, ast.Call):
    return _makes_foreign(value.func, classes)
  if isinstance(value, CONTAINERS):
    parts = ast.iter_child_nodes(value)
    return any(_is_foreign(x, classes, functions) for x in parts)
  return False


def _makes_foreign(function, classes):
  """Whether a call of the function makes an object that is no plain value."""
  name = _name(function)
  if isinstance(function, ast.Name) and name in classes:
    bases = [_name(x) for x in classes[name].bases]
    return not any(_is_plain_class(x) for x in bases)
  kind = _library_object(function)
  if isinstance(kind, type):
    return not issubclass(kind, PLAIN)
  return kind is not None and name in ITERATORS


def _is_plain_class(name):
  kind = getattr(builtins, name, None)
  is_plain = isinstance(kind, type) and issubclass(kind, PLAIN)
  return is_plain or name in ('NamedTuple', 'IntEnum', 'Counter', 'defaultdict')


def _library_object(function):
  """What a name, or MODULE.NAME, means in the standard library; None if it is
  none of these."""
  if isinstance(function, ast.Name):
    if hasattr(builtins, function.id):
      return getattr(builtins, function.id)
    module, attribute = environment.origin(function.id)
  elif isinstance(function, ast.Attribute):
    module, attribute = _name(function.value), function.attr
  else:
    return None
  if module not in environment.MODULES or not attribute:
    return None
  return getattr(importlib.import_module(module), attribute, None)
