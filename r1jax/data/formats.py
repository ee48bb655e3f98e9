"""Records from problems for programs with tests: LiveCodeBench, and Codeforces
in the form that open-r1 publishes."""

import json
from typing import Any

Record = dict[str, Any]

# Makes a method of LiveCodeBench's class Solution a function.
CALL = 'def call(*args):\n  return Solution().{name}(*args)\n'


def codeforces(row: Record) -> Record:
  """The prompt is the statement and the formats; tests are pairs of standard
  input and output."""
  parts = [row['description']]
  for key, title in (('input_format', 'Input'), ('output_format', 'Output')):
    if row.get(key):
      parts.append(f'{title}\n{row[key]}')
  tests = _input_output_tests(row['official_tests'])
  return dict(id=str(row['id']), prompt='\n\n'.join(parts), tests=tests)


def livecodebench(row: Record) -> Record:
  """A program that reads standard input, or a method of a class Solution. Only
  the public tests are used: the private tests are pickled."""
  record = dict(id=str(row['question_id']), prompt=row['question_content'])
  tests = json.loads(row['public_test_cases'])
  types = {test['testtype'] for test in tests}
  if types == {'stdin'}:
    return record | dict(tests=_input_output_tests(tests))
  if types != {'functional'}:
    raise ValueError(f'tests of the types {sorted(types)}')
  name = json.loads(row['metadata'])['func_name']
  if not name.isidentifier():
    raise ValueError(f'the function {name!r}')
  return record | dict(
    prompt=f'{record["prompt"]}\n\n{row["starter_code"]}',
    prefix=CALL.format(name=name),
    entry_point='call',
    tests=[{'assert': _assertion(test)} for test in tests],
  )


READERS = dict(livecodebench=livecodebench, codeforces=codeforces)


def _input_output_tests(tests):
  return [dict(input=test['input'], output=test['output']) for test in tests]


def _assertion(test):
  args = [json.loads(line) for line in test['input'].splitlines()]
  return f'call(*{args!r}) == {json.loads(test["output"])!r}'
