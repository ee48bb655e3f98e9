"""Problems for programs as other people's files hold them, as records with
tests: LiveCodeBench's, and Codeforces' as open-r1 publishes them.

LiveCodeBench's private tests are pickled: they are not read.
"""

import json

from r1jax import errors

SHAPES = {
  ('question_content', 'public_test_cases'): 'livecodebench',
  ('description', 'official_tests'): 'codeforces',
}
# A method of LiveCodeBench's class Solution, called by a name of its own.
CALL = 'def call(*args):\n  return Solution().{name}(*args)\n'


def record(row, shape, where):
  """A row of one of SHAPES as a record; UserError says what is wrong with it."""
  try:
    if SHAPES[shape] == 'codeforces':
      return codeforces(row)
    return livecodebench(row)
  except (KeyError, TypeError, ValueError) as error:
    raise errors.UserError(
      f'{where} has the keys of a problem with tests, but they cannot be read: '
      f'{type(error).__name__}: {error}'
    ) from error


def codeforces(row):
  """Statement, formats and tests of standard input and output."""
  parts = [row['description']]
  for key, title in (('input_format', 'Input'), ('output_format', 'Output')):
    if row.get(key):
      parts.append(f'{title}\n{row[key]}')
  tests = [
    dict(input=test['input'], output=test['output'])
    for test in row['official_tests']
  ]
  return dict(id=str(row['id']), prompt='\n\n'.join(parts), tests=tests)


def livecodebench(row):
  """Programs that read standard input, or methods of a class Solution."""
  tests = json.loads(row['public_test_cases'])
  found = dict(id=str(row['question_id']), prompt=row['question_content'])
  kinds = {test['testtype'] for test in tests}
  if kinds == {'stdin'}:
    made = [dict(input=test['input'], output=test['output']) for test in tests]
    return found | dict(tests=made)
  if kinds != {'functional'}:
    raise ValueError(f'tests of the types {sorted(kinds)}')
  name = json.loads(row['metadata'])['func_name']
  if not name.isidentifier():
    raise ValueError(f'the function {name!r}')
  made = []
  for test in tests:
    args = [json.loads(line) for line in test['input'].splitlines()]
    made.append(
      {'assert': f'call(*{args!r}) == {json.loads(test["output"])!r}'}
    )
  return found | dict(
    prompt=f'{found["prompt"]}\n\n{row["starter_code"]}',
    prefix=CALL.format(name=name),
    entry_point='call',
    tests=made,
  )
