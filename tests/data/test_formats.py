"""Problems of LiveCodeBench and Codeforces become records with tests."""

import json

import pytest

from r1jax import errors
from r1jax.data import record_files
from r1jax.rewards.code import unit_tests
from r1jax.sandbox import tiers

TESTS = [dict(input='1 2\n', output='3\n', testtype='stdin')]
STDIN = dict(
  question_id='abc_a',
  question_content='Add two numbers.',
  starter_code='',
  public_test_cases=json.dumps(TESTS),
  private_test_cases='eJw...',
)
FUNCTIONAL = dict(
  question_id=3,
  question_content='The longest word.',
  starter_code='class Solution:\n    def longest(self, words, most):\n        ',
  metadata=json.dumps(dict(func_name='longest')),
  public_test_cases=json.dumps(
    [
      dict(input='["a", "bcd", "ef"]\n2', output='"ef"', testtype='functional'),
      dict(input='["x"]\n1', output='"x"', testtype='functional'),
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
)
SOLUTION = """class Solution:
    def longest(self, words, most):
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
    (CODEFORCES, 'print("NO" if int(input()) % 2 else "YES")', 'print("YES")'),
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


def test_prompts_have_the_formats_and_the_starter_code(tmp_path):
  one, two = read(tmp_path / 'live.jsonl', STDIN, FUNCTIONAL)
  assert (one['id'], one['prompt']) == ('abc_a', 'Add two numbers.')
  assert two['id'] == '3' and 'def longest' in two['prompt']
  (record,) = read(tmp_path / 'cf.jsonl', CODEFORCES)
  assert record['id'] == '4/A'
  assert record['prompt'] == (
    'Is it even?\n\nInput\nA number.\n\nOutput\nYES or NO.'
  )


@pytest.mark.parametrize(
  'row, message',
  [
    (STDIN | dict(public_test_cases='['), 'line 1 cannot be read'),
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
