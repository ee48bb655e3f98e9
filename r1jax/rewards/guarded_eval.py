"""Keeps eval and exec, by which several scorers of reasoning-gym and sympy's
parser read an answer, from running what a model wrote."""

import ast
import builtins
import contextlib
import re
import sys
from collections.abc import Container, Iterator
from typing import Any

OWNER = 'reasoning_gym'
# Python literals and operators on them.
PLAIN = (
  ast.Expression | ast.Constant | ast.List | ast.Tuple | ast.Set | ast.Dict,
  ast.UnaryOp | ast.BinOp | ast.BoolOp | ast.Compare | ast.expr_context,
  ast.unaryop | ast.operator | ast.boolop | ast.cmpop,
)
# What sympy's parser writes around numbers and names.
MADE = 'Symbol Integer Float Rational factorial factorial2'.split()
FUNCTIONS = """
  sin cos tan cot sec csc asin acos atan acot asec acsc atan2 sinh cosh tanh
  coth asinh acosh atanh exp log ln sqrt cbrt root Abs abs sign erf Add Mul Pow
  erfc erfi Ei li Si Ci Shi Chi fresnels fresnelc gamma lowergamma uppergamma
""".split()
NAME = re.compile(r'[A-Za-z]\w*')
CONSTANTS = 'pi', 'E', 'I', 'oo', 'GoldenRatio'
TEXT_ARGUMENTS = *MADE, 'Function'  # of these a text may be an argument


class Refused(ValueError):
  """An answer is not evaluated."""


@contextlib.contextmanager
def guarded(gold: str = '') -> Iterator[None]:
  """In this context reasoning-gym evaluates plain values only, and sympy's
  parser numbers, symbols, operators, and FUNCTIONS or those of the gold answer:
  Integral, for example, would let a copied question pass. Both raise Refused
  for all else. To be used by one thread."""
  from sympy.parsing import sympy_parser  # slow, so only in workers

  real_eval, real_exec = builtins.eval, builtins.exec
  real_stringify = sympy_parser.stringify_expr
  functions = {*FUNCTIONS, *_functions_of(gold)}

  def guarded_eval(
    source: Any, /, globals: Any = None, locals: Any = None
  ) -> Any:
    frame = sys._getframe(1)
    if frame.f_globals.get('__name__', '').partition('.')[0] == OWNER:
      return real_eval(plain(source), {'__builtins__': {}})
    return real_eval(source, *_scopes(frame, globals, locals))

  def guarded_exec(
    source: Any, /, globals: Any = None, locals: Any = None, **options: Any
  ) -> None:
    frame = sys._getframe(1)
    if frame.f_globals.get('__name__', '').partition('.')[0] == OWNER:
      raise Refused('a program is not run')
    real_exec(source, *_scopes(frame, globals, locals), **options)

  def guarded_stringify(text: str, own: dict, *options: Any) -> str:
    """The program that sympy's parser makes of a text, and then evaluates."""
    program = real_stringify(text, own, *options)
    check_mathematics(program, own, functions)
    return program

  builtins.eval, builtins.exec = guarded_eval, guarded_exec
  sympy_parser.stringify_expr = guarded_stringify
  try:
    yield
  finally:
    builtins.eval, builtins.exec = real_eval, real_exec
    sympy_parser.stringify_expr = real_stringify


def plain(source: Any) -> Any:
  """The code of a text that consists of literals and operators."""
  tree = _tree(source)
  for node in ast.walk(tree):
    if not isinstance(node, PLAIN):
      raise Refused(f'{type(node).__name__} is not evaluated')
  return compile(tree, '<answer>', 'eval')


def check_mathematics(
  source: str, own_names: Container[str], functions: Container[str] = FUNCTIONS
) -> None:
  """Raises Refused for a program that is more than mathematics with these
  functions; own_names are symbols of the caller's."""
  tree = _tree(source)
  inside = set()  # nodes that are allowed because of what is around them
  for node in ast.walk(tree):
    if node in inside:
      continue
    if isinstance(node, ast.Call):
      inside |= _checked_call(node, functions)
    elif isinstance(node, ast.Name):
      if node.id not in CONSTANTS and node.id not in own_names:
        raise Refused(f'the name {node.id} is not evaluated')
    elif not isinstance(node, PLAIN) or _is_text(node):
      raise Refused(f'{type(node).__name__} is not evaluated')


def _functions_of(gold):
  """The names in a gold answer that are functions of sympy."""
  import sympy

  found = {name: vars(sympy).get(name) for name in NAME.findall(gold)}
  kinds = {name: x for name, x in found.items() if isinstance(x, type)}
  return [name for name, x in kinds.items() if issubclass(x, sympy.Expr)]


def _checked_call(node, functions):
  """The parts of a call of an allowed function that need no further check."""
  function = node.func
  if isinstance(function, ast.Call):  # Function('f')(x)
    name = function.func
    if not isinstance(name, ast.Name) or name.id != 'Function':
      raise Refused('a call of a call is not evaluated')
    return set()
  if not isinstance(function, ast.Name) or node.keywords:
    raise Refused('a call is not evaluated')
  if function.id not in functions and function.id not in TEXT_ARGUMENTS:
    raise Refused(f'the function {function.id} is not evaluated')
  inside = {function}
  if function.id in TEXT_ARGUMENTS:
    inside.update(x for x in node.args if _is_text(x))
  return inside


def _is_text(node):
  return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _tree(source):
  if not isinstance(source, str):
    raise Refused('only a text is evaluated')
  return ast.parse(source.strip(), mode='eval')


def _scopes(frame, own_globals, own_locals):
  """(globals, locals) of eval and exec if a caller gives these or None."""
  if own_globals is None:
    names = frame.f_locals if own_locals is None else own_locals
    return frame.f_globals, names
  return own_globals, own_globals if own_locals is None else own_locals
