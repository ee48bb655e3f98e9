"""Tools that a model may call in the middle of a response: text in, text out.

The call is what stands between the tool's two tags; the answer is put behind it
between <result> tags, and the model goes on from there.
"""

import ast
import dataclasses
import operator
from collections.abc import Callable
from fractions import Fraction

RESULT = '<result>{}</result>'
FAILED = RESULT.format('error')
MAX_CALL, MAX_DIGITS = 200, 40  # characters of a call, digits of a number
OPERATORS = {
  ast.Add: operator.add,
  ast.Sub: operator.sub,
  ast.Mult: operator.mul,
  ast.Div: operator.truediv,
}


@dataclasses.dataclass(frozen=True)
class Tool:
  begin: str
  end: str
  answer: Callable  # text -> text; never raises, whatever the model wrote

  def result(self, text):
    """What is put behind a response that ends with a call."""
    _, opened, call = text.removesuffix(self.end).rpartition(self.begin)
    return RESULT.format(self.answer(call) if opened else 'no call')


def calculate(text):
  """The value of + - * / and brackets over numbers, exact; else 'error'."""
  if len(text) > MAX_CALL:
    return 'error'
  try:
    value = _value(ast.parse(text.strip(), mode='eval').body)
  except (
    SyntaxError,
    ValueError,
    ArithmeticError,
    RecursionError,
    MemoryError,
  ):
    return 'error'
  return str(value)


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


TOOLS = dict(calculator=Tool('<calc>', '</calc>', calculate))
