"""Problems of LiveCodeBench and Codeforces become records with tests."""

import base64
import json
import pickle
import zlib

import pytest

from r1jax import errors
from r1jax.data import formats, plain_pickle, record_files
from r1jax.rewards.code import unit_tests
from r1jax.sandbox import tiers


def packed(tests):
  """Private tests as LiveCodeBench packs them."""
  data = zlib.compress(pickle.dumps(json.dumps(tests)))
  return base64.b64encode(data).decode()


TESTS = [dict(input='1 2\n', output='3\n', testtype='stdin')]
PRIVATE = [dict(input='4 5\n', output='9\n', testtype='stdin')]
STDIN = dict(
  question_id='abc_a',
  question_content='Add two numbers.',
  starter_code='',
  public_test_cases=json.dumps(TESTS),
  private_test_cases=packed(PRIVATE),
)
FUNCTIONAL = dict(
  question_id=3,
  question_content='The longest word.',
  starter_code='class Solution:\n'
  '    def longest(self, words: List[str], most: int) -> str:\n        ',
  metadata=json.dumps(dict(func_name='longest')),
  public_test_cases=json.dumps(
    [
      dict(input='["a", "bcd", "ef"]\n2', output='"ef"', testtype='functional'),
    ]
  ),
  private_test_cases=packed(
    [
      dict(input='["x", "abc"]\n1', output='"x"', testtype='functional'),
    ]
  ),
)
CODEFORCES = dict(
  id='4/A',
  title='Watermelon',
  description='Is it even?',
  input_format='A number.',
  output_format='YES or NO.',
  official_tests=[dict(input='8', output='YES'), dict(input='3', output='NO')],
  official_tests_complete=True,
  interaction_format=None,
  input_mode='stdio',
  generated_checker=None,
  executable=True,
  time_limit=1.5,
  memory_limit=256.0,
)
DIVISOR_CHECKER = """import sys
with open(sys.argv[1]) as file: n = int(file.read())
expected = open(sys.argv[2]).read()
got = int(open(sys.argv[3], encoding='utf-8').readline())
print(1 if 1 < got < n and n % got == 0 else 0)
"""
DIVISOR = CODEFORCES | dict(
  description='Print a divisor.',
  official_tests=[dict(input='12', output='2'), dict(input='35', output='5')],
  generated_checker=DIVISOR_CHECKER,
)
CUT = '1 ' * 125 + '...'  # as Codeforces shows a long test
SOLUTION = """class Solution:
    def longest(self, words: List[str], most: int) -> str:
        return max((x for x in words if len(x) <= most), key=len)
"""


def read(path, *rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return record_files.read(path)


@pytest.fixture(scope='module')
def tier():
  found = [tier for _, tier, _ in tiers.probe() if tier]
  if not found:
    pytest.skip('no sandbox tier works on this machine')
  return found[0]


@pytest.mark.parametrize(
  'row, right, wrong',
  [
    (STDIN, 'print(sum(map(int, input().split())))', 'print(4)'),
    (FUNCTIONAL, SOLUTION, SOLUTION.replace('max', 'min')),
    (FUNCTIONAL, SOLUTION, 'class Solution:\n  def longest(*_): return "ef"'),
    (STDIN, 'print(sum(map(int, stdin.read().split())))', 'print(3)'),
    (CODEFORCES, 'print("NO" if int(input()) % 2 else "YES")', 'print("YES")'),
    (CODEFORCES, 'print("NO" if int(input()) % 2 else "YES")', 'print("yes")'),
    (
      DIVISOR,
      'n = int(input())\nprint(n // (2 if n % 2 == 0 else 5))',
      'print(2)',
    ),
    (DIVISOR, 'print(5 if input() == "35" else 6)', 'print("x")'),
  ],
)
def test_records_have_the_tests_of_the_problem(
  tmp_path, tier, row, right, wrong
):
  (record,) = read(tmp_path / 'problems.jsonl', row)
  unit_tests.check_tests(record)
  limits = tiers.Limits(seconds=60)
  assert unit_tests.judge(record, right, tier, limits).value == 1
  assert unit_tests.judge(record, wrong, tier, limits).value == 0


def test_public_and_private_tests_are_used(tmp_path):
  one, two = read(tmp_path / 'live.jsonl', STDIN, FUNCTIONAL)
  assert [x['input'] for x in one['tests']] == ['1 2\n', '4 5\n']
  assert two['tests'] == [
    dict(args=[['a', 'bcd', 'ef'], 2], result='ef'),
    dict(args=[['x', 'abc'], 1], result='x'),
  ]
  plain = STDIN | dict(private_test_cases=json.dumps(PRIVATE))
  (record,) = read(tmp_path / 'plain.jsonl', plain)
  assert record == one


def test_prompts_have_the_formats_and_the_starter_code(tmp_path):
  one, two = read(tmp_path / 'live.jsonl', STDIN, FUNCTIONAL)
  assert (one['id'], one['prompt']) == ('abc_a', 'Add two numbers.')
  assert two['id'] == '3' and 'def longest' in two['prompt']
  (record,) = read(tmp_path / 'cf.jsonl', CODEFORCES)
  assert record['id'] == '4/A'
  assert record['prompt'] == (
    'Is it even?\n\nInput\nA number.\n\nOutput\nYES or NO.'
  )
  assert (record['time_limit'], record['memory_limit']) == (1.5, 256)


@pytest.mark.parametrize(
  'change, reason',
  [
    (dict(interaction_format='Ask.'), 'it is interactive'),
    (dict(input_mode='file'), 'it reads files'),
    (dict(executable=False), 'its tests are not executable'),
    (dict(official_tests_complete=False), 'tests are incomplete'),
    (dict(testset_size=3), 'tests are incomplete'),
    (dict(official_tests=[dict(input=CUT, output='3')]), 'incomplete'),
    (dict(official_tests=[]), 'no official tests'),
    (dict(generated_checker='# nothing\nx = 1'), 'checker prints nothing'),
    (dict(generated_checker='def main() {'), 'checker is not Python'),
    (
      dict(generated_checker='import pandas as p\nprint(1)'),
      'needs the module pandas',
    ),
    (
      dict(generated_checker='from os import x\nimport subprocess\nprint(1)'),
      'subproc',
    ),
  ],
)
def test_problems_that_cannot_be_judged_are_left_out_and_counted(
  tmp_path, capsys, change, reason
):
  bad = CODEFORCES | dict(id='other') | change
  path = tmp_path / 'problems.jsonl'
  assert [x['id'] for x in read(path, bad, CODEFORCES)] == ['4/A']
  printed = capsys.readouterr().out
  assert 'left out 1 of 2 problems' in printed and reason in printed
  with pytest.raises(errors.UserError, match=f'{reason}.*no problem is left'):
    read(path, bad)


def test_a_grid_may_end_in_dots(tmp_path):
  tests = [dict(input='2 3\n#..\n...\n', output='...')]
  (record,) = read(
    tmp_path / 'a.jsonl', CODEFORCES | dict(official_tests=tests)
  )
  assert record['tests'] == tests


def test_problems_without_private_tests_or_with_too_large_ones_are_left_out(
  tmp_path, monkeypatch
):
  path = tmp_path / 'problems.jsonl'
  for private in '', None:
    with pytest.raises(errors.UserError, match='private tests are missing'):
      read(path, STDIN | dict(private_test_cases=private))
  monkeypatch.setattr(formats, 'MAX_TESTS', 1000)
  large = [PRIVATE[0] | dict(input='1 ' * 10**6)]
  with pytest.raises(errors.UserError, match='tests exceed.*no problem'):
    read(path, STDIN | dict(private_test_cases=packed(large)))


def test_the_case_of_outputs_does_not_count_if_the_problem_says_so(tmp_path):
  says = dict(output_format='You can print each letter in any case.')
  (record,) = read(tmp_path / 'problems.jsonl', CODEFORCES | says)
  assert record['ignore_case'] is True
  idiom = dict(output_format='Print it. In any case, an answer exists.')
  letters = [dict(input='1', output='aB')]
  for row in (
    CODEFORCES,
    CODEFORCES | idiom,
    CODEFORCES | says | dict(official_tests=letters),
  ):
    (record,) = read(tmp_path / 'other.jsonl', row)
    assert 'ignore_case' not in record


class Call:
  def __reduce__(self):
    return print, ('called',)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_plain_data_are_read(protocol):
  for value in (
    'a\u00e9\U0001f600' * 300,
    [{'input': '1', 'n': [1, -(10**30), 2.5, None, True]}, (), (1, 2), {}],
    {'a': ('b', 'b', 'c', 'd')},
  ):
    assert plain_pickle.loads(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_anything_else_are_refused(protocol, capsys):
  shared = [1]
  for value in Call(), [Call()], print, pickle.Pickler, {1}, [shared, shared]:
    with pytest.raises(ValueError, match='a pickle'):
      plain_pickle.loads(pickle.dumps(value, protocol))
  assert not capsys.readouterr().out


@pytest.mark.parametrize(
  'data',
  [
    b'',
    b'.',
    b'N',
    b'NN.',
    b'h\0.',
    b'X\xff\xff\xff\x7fa.',
    b'(.',
    b'a.',
    b'Nr\xff\xff\xff\xff0.',
    b'cos\nsystem\n(S"true"\ntR.',
  ],
)
def test_malformed_pickles_are_refused(data):
  with pytest.raises(ValueError):
    plain_pickle.loads(data)


def test_the_parts_of_a_pickle_are_limited(monkeypatch):
  monkeypatch.setattr(plain_pickle, 'MAX_OPCODES', 100)
  assert len(plain_pickle.loads(pickle.dumps([1] * 40))) == 40
  with pytest.raises(ValueError, match='more than 100 parts'):
    plain_pickle.loads(pickle.dumps([1] * 200))


@pytest.mark.parametrize(
  'row, message',
  [
    (STDIN | dict(public_test_cases='['), 'line 1 cannot be read'),
    (STDIN | dict(private_test_cases='eJw...'), 'line 1 cannot be read'),
    (
      STDIN
      | dict(
        private_test_cases=base64.b64encode(
          zlib.compress(pickle.dumps(Call()))
        ).decode()
      ),
      'more than plain data',
    ),
    (FUNCTIONAL | dict(metadata='{}'), 'func_name'),
    (
      FUNCTIONAL | dict(metadata='{"func_name": "f(); import os"}'),
      'import os',
    ),
    (CODEFORCES | dict(official_tests=[{'input': '1'}]), 'output'),
    (CODEFORCES | dict(official_tests=None), 'NoneType'),
  ],
)
def test_an_invalid_problem_is_refused(tmp_path, row, message):
  with pytest.raises(errors.UserError, match=message):
    read(tmp_path / 'problems.jsonl', row)
