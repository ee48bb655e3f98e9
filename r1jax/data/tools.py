"""Tools that a model may call within a response: <NAME>arguments</NAME>. The
result is appended between <result> tags."""

import ast
import dataclasses
import inspect
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from r1jax import errors, user_code
from r1jax.data.record_files import Record

RESULT = '<result>{}</result>'
FAILED = RESULT.format('error')
CALL = '(arguments, record) -> text'
MAX_CALL_LENGTH = 200  # characters
MAX_DIGITS = 40  # of a number
FAILURES = SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError
OPERATORS: dict[type[ast.operator], Callable] = {
  ast.Add: operator.add,
  ast.Sub: operator.sub,
  ast.Mult: operator.mul,
  ast.Div: operator.truediv,
}


@dataclasses.dataclass(frozen=True)
class Tool:
  """A tool, which a response calls by <name>arguments</name>. `description`
  replaces {tool} in a prompt template."""

  name: str
  description: str
  call: Callable[[str, Record], str]

  @property
  def begin(self) -> str:
    return f'<{self.name}>'

  @property
  def end(self) -> str:
    return f'</{self.name}>'


def calculate(expression: str, record: Record) -> str:
  """The exact value of + - * / and brackets over numbers, or 'error'."""
  if len(expression) > MAX_CALL_LENGTH:
    return 'error'
  try:
    return str(_value(ast.parse(expression.strip(), mode='eval').body))
  except FAILURES:
    return 'error'


TOOLS = dict(
  calculator=Tool(
    name='calc',
    description='<calc>arithmetic</calc> is its value, e.g. <calc>2*3</calc>',
    call=calculate,
  )
)


def load(name: str) -> Tool:
  """The tool of config.prompt.tool: one of TOOLS, or the user's own: a function
  (arguments, record) -> text, or an object with `name`, `description` and such
  a function `call` or __call__. Raises UserError for anything else."""
  key = 'config.prompt.tool'
  found = user_code.lookup(TOOLS, name, key)
  if isinstance(found, Tool):
    return found
  parts, shown = dir(found), user_code.shown_name(name)
  call = found.call if 'call' in parts else found
  user_code.check_call(call, name, key, CALL)
  tag = found.name if 'name' in parts else ''
  if not tag and '__name__' in parts:
    tag = found.__name__
  if not isinstance(tag, str) or not re.fullmatch(r'[A-Za-z][\w-]*', tag):
    raise errors.UserError(
      f'{key}: {shown} has the name {tag!r}; expected a word, since responses '
      'call the tool by <name>arguments</name>'
    )
  text = found.description if 'description' in parts else inspect.getdoc(found)
  return Tool(name=tag, description=text or '', call=call)


def result(tool: Tool, text: str, record: Record) -> str:
  """The text to append after a call of the tool. Raises UserError if the tool
  fails or returns no text."""
  _, opened, arguments = text.removesuffix(tool.end).rpartition(tool.begin)
  if not opened:
    return RESULT.format('no call')
  where = f'for the arguments {arguments!r} of record {record["id"]!r}'
  try:
    answer: Any = tool.call(arguments, dict(record))
  except (Exception, SystemExit) as error:
    sentence = f'the tool {tool.name} failed {where}'
    raise user_code.failure(sentence, error) from error
  if not isinstance(answer, str):
    raise errors.UserError(
      f'the tool {tool.name} returned {user_code.describe(answer)} {where}; '
      'expected a text'
    )
  return RESULT.format(answer)


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
