"""Tools that a model may call within a response. A call is the text between the
tool's two tags; its result is appended between <result> tags."""

import ast
import operator
from collections.abc import Callable
from fractions import Fraction

RESULT = '<result>{}</result>'
FAILED = RESULT.format('error')
MAX_CALL_LENGTH = 200  # characters
MAX_DIGITS = 40  # of a number
FAILURES = SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError
OPERATORS: dict[type[ast.operator], Callable] = {
  ast.Add: operator.add,
  ast.Sub: operator.sub,
  ast.Mult: operator.mul,
  ast.Div: operator.truediv,
}


class Calculator:
  """A tool: two tags, and `answer`, which never raises."""

  begin, end = '<calc>', '</calc>'

  def answer(self, call: str) -> str:
    """The exact value of + - * / and brackets over numbers, or 'error'."""
    if len(call) > MAX_CALL_LENGTH:
      return 'error'
    try:
      return str(_value(ast.parse(call.strip(), mode='eval').body))
    except FAILURES:
      return 'error'


TOOLS = dict(calculator=Calculator())


def result(tool: Calculator, text: str) -> str:
  """The text to append after a call of the tool."""
  _, opened, call = text.removesuffix(tool.end).rpartition(tool.begin)
  return RESULT.format(tool.answer(call) if opened else 'no call')


def _value(node):
  if isinstance(node, ast.Constant) and type(node.value) in (int, float):
    value = Fraction(str(node.value))
  elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
    value = -_value(node.operand)
  elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
    value = OPERATORS[type(node.op)](_value(node.left), _value(node.right))
  else:
    raise ValueError('not arithmetic')
  if max(abs(value.numerator), value.denominator) >= 10**MAX_DIGITS:
    raise ValueError('too long')
  return value
