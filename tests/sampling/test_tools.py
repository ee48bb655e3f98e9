"""A tool answers whatever the model wrote, and never raises."""

import time

import pytest

from r1jax.sampling import tools

CALCULATOR = tools.TOOLS['calculator']


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
def test_the_calculator_knows_arithmetic_alone(call, value):
  assert tools.calculate(call) == value


def test_hostile_calls_cost_nothing():
  began = time.process_time()
  for call in ('9*' * 99 + '9', '-' * 199 + '1', '1e9999999', '9' * 10**5):
    tools.calculate(call)
  assert time.process_time() - began < 0.5


def test_the_result_is_that_of_the_last_call():
  text = '<think><calc>1+1</calc><result>2</result> so <calc>2*3</calc>'
  assert CALCULATOR.result(text) == '<result>6</result>'
  assert CALCULATOR.result('6</calc>') == '<result>no call</result>'
