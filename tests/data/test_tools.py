"""Tools answer any text of a model without an exception."""

import time

import pytest

from r1jax import errors, user_code
from r1jax.data import tools

CALCULATOR = tools.load('calculator')
RECORD = dict(id='r', prompt='?')


@pytest.mark.parametrize(
  'call, value',
  {
    '12*34': '408',
    ' (1 + 2) * -3 ': '-9',
    '1/3 + 1/6': '1/2',
    '0.1 + 0.2': '3/10',
    '7 / 0': 'error',
    '2 ** 9': 'error',
    '__import__("os")': 'error',
    'True + 1': 'error',
    '': 'error',
    '9' * 41: 'error',
    '1e999': 'error',
    '(' * 150: 'error',
    '1\x00': 'error',
  }.items(),
)
def test_the_calculator_evaluates_arithmetic_only(call, value):
  assert CALCULATOR.call(call, RECORD) == value


def test_hostile_calls_are_cheap():
  began = time.process_time()
  for call in ('9*' * 99 + '9', '-' * 199 + '1', '1e9999999', '9' * 10**5):
    CALCULATOR.call(call, RECORD)
  # They take a millisecond; without bounds, minutes.
  assert time.process_time() - began < 20


def test_the_result_is_that_of_the_last_call():
  text = '<think><calc>1+1</calc><result>2</result> so <calc>2*3</calc>'
  assert tools.result(CALCULATOR, text, RECORD) == '<result>6</result>'
  assert (
    tools.result(CALCULATOR, '6</calc>', RECORD) == '<result>no call</result>'
  )


class Lookup:
  name, description = 'look', '<look>key</look>'

  def __call__(self, arguments, record):
    return record[arguments]


class Shout:
  name, description = 'shout', ''

  def call(self, arguments, record):
    return arguments.upper()


def add(arguments, record):
  """<add>a b</add>"""
  return str(sum(map(int, arguments.split())))


@pytest.mark.parametrize(
  'given, text, want',
  [
    (Lookup(), '<look>id</look>', '<result>r</result>'),
    (Shout(), '<shout>ab</shout>', '<result>AB</result>'),
    (add, 'so <add>2 3</add>', '<result>5</result>'),
  ],
)
def test_a_tool_is_a_function_or_an_object_with_a_name(given, text, want):
  tool = tools.load(user_code.name_of(given))
  assert tools.result(tool, text, RECORD) == want


def test_the_description_of_a_function_is_its_docstring():
  tool = tools.load(user_code.name_of(add))
  assert (tool.name, tool.description) == ('add', '<add>a b</add>')


def test_a_tool_that_fails_names_its_arguments_and_the_record():
  tool = tools.load(user_code.name_of(add))
  message = "tool add failed for the arguments '2 x' of record 'r'\n.*Traceback"
  with pytest.raises(errors.UserError, match=message):
    tools.result(tool, '<add>2 x</add>', RECORD)
  number = tools.Tool('seven', '', lambda arguments, record: 7)
  with pytest.raises(errors.UserError, match='returned int 7 .* a text'):
    tools.result(number, '<seven></seven>', RECORD)


@pytest.mark.parametrize(
  'given, message',
  [
    (lambda arguments, record: '', "the name '<lambda>'; expected a word"),
    (lambda arguments: '', r'expected a function \(arguments, record\)'),
    (object, 'expected a function'),
  ],
)
def test_what_is_no_tool_is_refused(given, message):
  with pytest.raises(errors.UserError, match=message):
    tools.load(user_code.name_of(given))
  with pytest.raises(errors.UserError, match='it can be calculator, or'):
    tools.load('calculater')
