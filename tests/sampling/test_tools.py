"""Tools answer any text of a model without an exception."""

import time

import pytest

from r1jax.sampling import tools

CALCULATOR = tools.Calculator()


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
  assert CALCULATOR.answer(call) == value


def test_hostile_calls_are_cheap():
  began = time.process_time()
  for call in ('9*' * 99 + '9', '-' * 199 + '1', '1e9999999', '9' * 10**5):
    CALCULATOR.answer(call)
  assert time.process_time() - began < 0.5


def test_the_result_is_that_of_the_last_call():
  text = '<think><calc>1+1</calc><result>2</result> so <calc>2*3</calc>'
  assert tools.result(CALCULATOR, text) == '<result>6</result>'
  assert tools.result(CALCULATOR, '6</calc>') == '<result>no call</result>'
