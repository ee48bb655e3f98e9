"""Programs earn credit for the tests that they pass, and for nothing else."""

import dataclasses
import json
import math

import pytest
from toy_sandbox import LIMITS, SHORT, TIERS, local, service, tier_of

from r1jax import errors
from r1jax.rewards.code import unit_tests, verifier
from r1jax.sandbox import tiers

ADD = dict(
  id='add',
  prompt='def add(x: int, y: int):\n    """Add two numbers x and y\n'
  '    >>> add(2, 3)\n    5\n    """\n',
  entry_point='add',
  test='METADATA = {}\n\n\ndef check(candidate):\n'
  '    assert candidate(0, 1) == 1\n    assert candidate(-1, 5) == 4\n',
)
ROOT = dict(  # the test uses another function of the prompt
  id='root',
  prompt='import math\nfrom typing import List\n\n\n'
  'def poly(xs: List[float], x: float):\n'
  '    return sum(c * math.pow(x, i) for i, c in enumerate(xs))\n\n\n'
  'def root(xs: List[float]):\n    """ find x with poly(xs, x) = 0 """\n',
  entry_point='root',
  test='def check(candidate):\n    for xs in [1.0, 2.0], [-3.0, 1.5]:\n'
  '        assert math.fabs(poly(xs, candidate(xs))) < 1e-4\n',
)
SORTED = dict(  # the test calls the function by name and reads its argument
  id='sorted',
  prompt='def put_in_order(l: list):\n    """Sorts l in place."""\n',
  entry_point='put_in_order',
  test='def check(candidate):\n    l = [3, 1, 2]\n    candidate(l)\n'
  '    assert tuple(l) == (1, 2, 3)\n    l = []\n'
  '    assert put_in_order(l) is None\n',
)
SOLUTIONS = [
  (ADD, '    return x + y\n'),
  (ADD, 'def add(x, y):\n    return x + y\n'),
  (ADD, 'from __future__ import annotations\nadd = lambda x, y: x + y\n'),
  (ROOT, '    return -xs[0] / xs[1]\n'),
  (ROOT, 'def root(xs: List[float]):\n  return -xs[0] / xs[1]\n'),
  (SORTED, '    l.sort()\n'),
]
STUBS = (
  '    pass\n',
  '    return None\n',
  'def other():\n    return 1\n',
  'x = 1\n',
  '',
)
TWICE = dict(
  id='twice',
  prompt='Write a program that doubles each number that it reads.',
  tests=[
    dict(input='1\n2\n', output='2\n4'),
    dict(input='', output=''),
    dict(input='50\n', output='100  \n\n'),
    dict(input='x\n', output='no number\n'),
  ],
)
SQUARE = dict(
  id='square',
  prompt='Write square(n).',
  entry_point='square',
  tests=[
    {'assert': 'square(3) == 9'},
    {'assert': 'assert square(-2) == 4'},
    {'assert': 'all(square(n) == n * n for n in range(9))'},
    {'assert': '[square(0.5)] == [0.25]'},
  ],
)


@pytest.fixture(params=TIERS)
def tier(request):
  with tier_of(request.param) as tier:
    yield tier


def judge(record, code, partial=False, tier=None):
  return unit_tests.judge(record, code, tier or local(), LIMITS, partial)


@pytest.mark.parametrize(
  'text, code',
  [
    ('```python\nx = 1\n```', 'x = 1\n'),
    ('<think>\n```python\nno\n```\n</think>\n```py\n  x\n\n```\n', '  x\n\n'),
    ('<think>\n```python\nno\n```\n</think> x = 1', None),
    ('<think>\n```python\nno\n```', None),
    ('```python\na\n```\n```\nb\n```\n```bash\nls\n```', 'a\n'),
    ('```\na\n```\n```\nb\n```\n```bash\nls\n```', 'b\n'),
    ('```cpp\nint x;\n```', None),
    ('```python\na\n```\n```python\nnot closed', 'a\n'),
    ('```python\na\n', None),
    ('a ```python\nb\n```', None),
    (
      '```Python\nx = """\n  ```python\n"""\n```',
      'x = """\n  ```python\n"""\n',
    ),
    ('```python\na\n```\n<answer>```python\nb\n```</answer>', 'b\n'),
    ('```python\na\n```\n<answer>\n```python\nb\n```\n</answer>', 'b\n'),
    ('<answer>\n```python\na\n```\n</answer>\n```python\nb\n```', 'a\n'),
    ('<answer>\n```python\na\n```\n', None),
    ('```python title="a b"\na\n```\n\n```\nb\n```', 'a\n'),
    ('```python\r\nx = "\u2028"\r\n```\r\n', 'x = "\u2028"\n'),
    ('plain', None),
  ],
)
def test_the_last_closed_python_block_is_the_code(text, code):
  assert verifier.extract_program(text) == code


def test_too_long_code_earns_nothing():
  assert judge(ADD, '#' * (unit_tests.MAX_CODE + 1))[:2] == (0, 'compile')


@pytest.mark.parametrize('n', range(len(SOLUTIONS)))
def test_solutions_pass(tier, n):
  record, code = SOLUTIONS[n]
  assert judge(record, code, tier=tier)[:2] == (1, 'passed')


@pytest.mark.parametrize('code', STUBS)
@pytest.mark.parametrize('record', [ADD, ROOT, SORTED], ids=lambda x: x['id'])
def test_stubs_fail(record, code):
  assert judge(record, code).value == 0


def test_the_prefix_is_put_before_the_response():
  record = ADD | dict(prompt='Complete add(x, y).', prefix='def add(x, y):\n')
  assert judge(record, '  return x + y').value == 1
  record = SQUARE | dict(prefix='def times(a, b): return a * b\n')
  assert judge(record, 'def square(n): return times(n, n)').value == 1
  record = TWICE | dict(prefix='import sys', tests=TWICE['tests'][:1])
  assert judge(record, 'for n in sys.stdin: print(2 * int(n))').value == 1


@pytest.mark.parametrize(
  'code, kind',
  [
    ('def add(x, y): return x - y', 'wrong'),
    ('def add(x, y): return object()', 'wrong'),
    ('def add(x, y): 1 / 0', 'error'),
    ('def add(x, y): raise AssertionError', 'error'),
    ('def add(x, y): exit(0)', 'error'),
    ('import os\nos._exit(0)', 'error'),
    ('add = 1', 'error'),
    ('def add(x, y', 'compile'),
    ('def add(x, y): return [0] * 10**9', 'memory'),
    ('def add(x, y): return "a" * 10**6', 'output'),
  ],
)
def test_the_kind_of_a_verdict_is_the_kind_of_failure(code, kind):
  value, found, reason = judge(ADD, code)
  assert (value, found) == (0, kind) and reason


def test_a_program_that_exceeds_its_cpu_time_earns_nothing():
  code = 'def add(x, y):\n  while True: pass'
  limits = dataclasses.replace(LIMITS, seconds=SHORT)
  value, kind, reason = unit_tests.judge(ADD, code, local(), limits)
  assert (value, kind) == (0, 'timeout') and reason


def test_a_test_cannot_hide_that_the_program_ended():
  test = (
    'def check(candidate):\n  try: candidate(1, 2)\n  except Exception: pass\n'
  )
  record = ADD | dict(test=test)
  assert judge(record, 'def add(x, y): raise ValueError').value == 1
  assert judge(record, 'import os\ndef add(x, y): os._exit(0)').value == 0


def test_a_test_that_calls_nothing_earns_nothing():
  code = 'def add(x, y): return x + y'
  for test in (
    'def check(candidate):\n  pass',
    'def check(candidate):\n  assert candidate',
    'assert add(1, 2) == 3\ndef check(candidate):\n  pass',
  ):
    assert judge(ADD | dict(test=test), code)[:2] == (0, 'wrong')
  record = SQUARE | dict(tests=[{'assert': 'square(3)'}, {'assert': 'True'}])
  code = 'def square(n): return n * n'
  assert judge(record, code).value == 0
  assert judge(record, code, partial=True).value == 0.5


def test_an_integer_too_long_for_a_message_is_wrong():
  test = (
    'def check(candidate):\n  x = candidate(1, 2)\n'
    '  if x != 3: raise AssertionError(x)'
  )
  record = ADD | dict(test=test)
  assert judge(record, 'def add(x, y): return 1 << 10**5')[:2] == (0, 'wrong')


def test_a_test_that_cannot_be_sent_to_the_sandbox_is_masked():
  test = 'def check(candidate):\n  candidate(lambda: 0, 1)'
  value, kind, reason = judge(ADD | dict(test=test), 'def add(x, y): pass')
  assert math.isnan(value) and kind == 'infra' and 'function' in reason


def test_a_prefix_that_fails_only_outside_the_sandbox_is_masked():
  record = SQUARE | dict(prefix='import r1jax_nowhere\n')
  value, kind, reason = judge(record, 'def square(n): return n * n')
  assert value == 0 and kind == 'error'  # it does not load in the sandbox
  record = SQUARE | dict(prefix='import os\nif os.environ: 1 / 0\n')
  value, kind, reason = judge(record, 'def square(n): return n * n')
  assert math.isnan(value) and kind == 'infra' and 'ZeroDivision' in reason


def test_a_failing_sandbox_is_masked_also_as_json():
  gone = tiers.Tier('bwrap', '/nowhere/bwrap')
  limits = dict(seconds=1.0, memory=1 << 28)
  for record, code in (ADD, 'def add(x, y): return x + y'), (TWICE, 'print()'):
    assert math.isnan(judge(record, code, tier=gone).value)
    job = json.loads(
      json.dumps([unit_tests.tests_of(record), code, gone, limits, True])
    )
    value, kind, _ = json.loads(json.dumps(unit_tests.judge_json(*job)))
    assert math.isnan(value) and kind == 'infra'


def test_a_service_that_fails_is_masked():
  answer = dict(status='SandboxError', message='full', run_result=None)
  with service(answer) as url:
    tier = tiers.Tier('service', url)
    assert math.isnan(judge(ADD, '    return x + y', tier=tier).value)


def test_spaces_at_the_ends_of_lines_of_output_are_ignored(tier):
  code = (
    'import sys\nfor n in sys.stdin:\n'
    '  try: print(2 * int(n), " ")\n  except ValueError: print("no number\\n")'
  )
  assert judge(TWICE, code, tier=tier)[:2] == (1, 'passed')


@pytest.mark.parametrize(
  'printed, right',
  [
    ('2\\n4', True),
    ('2\\r\\n4 \\t\\n\\n', True),
    ('2 4', False),
    (' 2\\n4', True),
    ('2\\n\\n4', False),
    ('2.0\\n4', True),
    ('2\\n4\\n5', False),
  ],
)
def test_other_differences_of_output_are_wrong(printed, right):
  record = TWICE | dict(tests=TWICE['tests'][:1])
  verdict = judge(record, f'print("{printed}")')
  assert verdict[:2] == ((1, 'passed') if right else (0, 'wrong'))


def test_output_may_be_twice_as_long_as_expected_output():
  record = dict(id='a', tests=[dict(input='', output='a' * LIMITS.output * 2)])
  code = 'print("a" * {} * 2)'
  assert judge(record, code.format(LIMITS.output)).value == 1
  assert judge(record, code.format(LIMITS.output * 2))[:2] == (0, 'output')


def test_partial_credit_is_the_share_of_tests():
  code = 'import sys\nfor n in sys.stdin: print(2 * int(n))'
  assert judge(TWICE, code)[:2] == (0, 'error')
  assert judge(TWICE, code, partial=True)[:2] == (0.75, 'error')
  code = 'def square(n): return n * n if n >= 0 else 0'
  assert judge(SQUARE, code)[:2] == (0, 'wrong')
  assert judge(SQUARE, code, partial=True)[:2] == (0.75, 'wrong')
  # HumanEval's check is one test.
  assert judge(ADD, 'def add(x, y): return 1', partial=True).value == 0


def test_a_test_that_ends_the_program_fails_alone():
  code = 'import os\ndef square(n):\n  if n < 0: os._exit(0)\n  return n * n'
  assert judge(SQUARE, code, partial=True)[:2] == (0.75, 'error')


def test_a_program_that_does_not_load_is_started_once(monkeypatch):
  started = []
  open_program = tiers.open_program

  def record_start(*args):
    started.append(args)
    return open_program(*args)

  monkeypatch.setattr(tiers, 'open_program', record_start)
  for code, kind in ('def square(', 'compile'), ('1 / 0', 'error'):
    assert judge(SQUARE, code, partial=True)[:2] == (0, kind)
  assert len(started) == 2


@pytest.mark.parametrize(
  'record, message',
  [
    (dict(tests=[]), 'record r has no tests'),
    (dict(tests='x'), 'record r has no tests'),
    (dict(tests=[dict(input='1')]), 'must all be objects'),
    (dict(tests=[dict(input='1', output=1)]), 'must all be objects'),
    (dict(tests=[dict(input='', output=''), {'assert': 'x'}]), 'must all'),
    (dict(tests=[{'assert': 'f(1) = 2'}]), 'is not Python'),
    (dict(tests=[{'assert': 'f(1) == 2'}]), 'add its `entry_point`'),
    (dict(test='def check(candidate):', entry_point='f'), 'is not Python'),
    (dict(test='def test(): pass', entry_point='f'), 'does not define check'),
    (
      dict(test=ADD['test'], entry_point='a b'),
      'add its `entry_point`',
    ),
    (TWICE | dict(prefix=3), 'is not a string'),
  ],
)
def test_tests_that_cannot_be_run_are_an_error(record, message):
  with pytest.raises(errors.UserError, match=message):
    unit_tests.check_tests(record | dict(id='r'))


@pytest.mark.parametrize('record', [ADD, ROOT, SORTED, TWICE, SQUARE])
def test_valid_records_are_accepted(record):
  unit_tests.check_tests(record)
  assert unit_tests.tests_of(record | dict(answer='x')) == {
    key: x for key, x in record.items() if key != 'id'
  }


def test_tests_that_are_too_large_are_an_error(monkeypatch):
  monkeypatch.setattr(unit_tests, 'MAX_TESTS', 100)
  record = dict(id='q7', prompt='?', tests=[dict(input='1' * 99, output='1')])
  with pytest.raises(errors.UserError, match='record q7 exceed'):
    unit_tests.check_tests(record)
