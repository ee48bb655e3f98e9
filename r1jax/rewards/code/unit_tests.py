"""Runs a record's unit tests against a program. The program runs in a sandbox;
assertions run in this trusted process on plain values.

A record has one of
- `test` and `entry_point`, as in HumanEval: `test` defines check(candidate);
- `tests`, a list of {'assert': 'f(2) == 4'}, and `entry_point`;
- `tests`, a list of {'args': [2], 'result': 4}, and `entry_point`;
- `tests`, a list of {'input': '...', 'output': '...'}: stdin and stdout of a
  program, compared as comparison.same_output says, or by a checker.
An entry point is a function, or a method of a class Solution. Optional keys:
- `prefix`, or with `test` a prompt that is Python, precedes the code of the
  response, which may then be the body of the function;
- `imports`: whether names as of LiveCodeBench's judge are there without imports
  (default: if there are `tests` of a function, or its entry point is a method);
- `time_limit` (CPU seconds of a test), `memory_limit` (MiB);
- `tolerance` (of numbers that are not integers), `ignore_case` (of outputs);
- `checker`, a Python program for many right outputs, called with the names of
  files: input, expected output, output. It prints 1 if the output is right.
"""

import contextlib
import json
import math
import re
from collections.abc import Sequence

from r1jax import errors
from r1jax.rewards.code import arguments, cases, function_tests, program_tests
from r1jax.rewards.code.suite import Suite
from r1jax.rewards.verdict import Record, Verdict
from r1jax.sandbox.tiers import Limits, Tier

KEYS = (
  'prompt prefix test tests entry_point imports time_limit memory_limit '
  'tolerance ignore_case checker'
).split()
MAX_CODE = 1 << 20  # characters of a program
MAX_TESTS = 48 << 20  # characters of a record's tests as JSON


def is_code(record: Record) -> bool:
  """Whether answers to the record are programs, which its tests verify."""
  return 'test' in record or 'tests' in record


def check_tests(record: Record) -> None:
  """Raises a UserError if the record's tests cannot be run."""
  name = f'record {record["id"]}'
  sources = _sources(record, name)
  for text in sources:
    if cases.compiled(text) is None:
      raise errors.UserError(f'a test of {name} is not Python: {text[:60]!r}')
  if not isinstance(record.get('prefix', ''), str):
    raise errors.UserError(f'the prefix of {name} is not a string')
  _check_options(record, name)
  if not cases.reads_stdin(record):
    entry = record.get('entry_point')
    if not isinstance(entry, str) or not cases.ENTRY_POINT.fullmatch(entry):
      raise errors.UserError(
        f'{name} tests a function: add its `entry_point`, the name of a '
        'function or of a method as Solution.NAME'
      )
    _check_arguments(record, name, sources)
  if len(json.dumps(tests_of(record))) > MAX_TESTS:
    raise errors.UserError(f'the tests of {name} exceed {MAX_TESTS >> 20} MiB')


def _sources(record, name):
  """The code of the record's tests."""
  test, tests = record.get('test'), record.get('tests')
  if isinstance(test, str):
    if not re.search(r'^def check\(', test, re.MULTILINE):
      raise errors.UserError(f'{name}: `test` does not define check(candidate)')
    return [test]
  if not isinstance(tests, list) or not tests or 'test' in record:
    raise errors.UserError(
      f'{name} has no tests: add `test` (code that defines check(candidate)) '
      'or `tests` (a list of input and output, of args and result, or of assert)'
    )
  for keys in {'input', 'output'}, {'args', 'result'}, {'assert'}:
    if all(isinstance(x, dict) and x.keys() >= keys for x in tests):
      texts = [x[key] for x in tests for key in keys - {'args', 'result'}]
      lists = [x['args'] for x in tests if 'args' in keys]
      if {type(x) for x in texts} <= {str} and {type(x) for x in lists} <= {
        list
      }:
        return list(map(cases.assertion, tests)) if 'assert' in keys else []
  raise errors.UserError(
    f'the tests of {name} must all be objects with the strings `input` and '
    '`output`, or all with the list `args` and `result`, or all with the string '
    '`assert`'
  )


def _check_options(record, name):
  """Refuses invalid values of the optional keys."""
  for key in 'time_limit', 'memory_limit', 'tolerance':
    value = record.get(key, 1)
    is_number = type(value) in (int, float) and math.isfinite(value)
    if not is_number or value < 0 or (value == 0 and key != 'tolerance'):
      raise errors.UserError(f'{key} of {name} must be a positive number')
  for key in 'ignore_case', 'imports':
    if type(record.get(key, True)) is not bool:
      raise errors.UserError(f'{key} of {name} must be true or false')
  checker = record.get('checker')
  if checker is None:
    return
  if not isinstance(checker, str) or cases.compiled(checker) is None:
    raise errors.UserError(f'the checker of {name} is not a Python program')
  if not cases.reads_stdin(record):
    raise errors.UserError(
      f'{name} has a checker, which checks the output of a program: its tests '
      'must have `input` and `output`'
    )


def _check_arguments(record, name, sources):
  """Refuses tests whose arguments cannot be sent to the sandbox."""
  head = cases.head(record)
  head = head if cases.compiled(head) else ''
  for text in sources:
    names = {cases.entry_point(record)[1], 'candidate'}
    if found := arguments.problem(text, head, names):
      raise errors.UserError(
        f'a test of {name} calls the function with {found}, which cannot be '
        f'sent to the sandbox: pass {function_tests.PLAIN}'
      )


def tests_of(record: Record) -> Record:
  """The part of a record that determines whether a program is right."""
  return {key: record[key] for key in KEYS if key in record}


def judge_json(
  record: Record, code: str, tier: Sequence[str], limits: dict, partial: bool
) -> list:
  """`judge` for a worker: takes and returns JSON."""
  return list(judge(record, code, Tier(*tier), Limits(**limits), partial))


def judge(
  record: Record, code: str, tier: Tier, limits: Limits, partial: bool = False
) -> Verdict:
  """The Verdict on a program: 1 if it passes all tests, else 0; with `partial`
  the share of tests that pass. HumanEval's check is one test. If the sandbox
  fails, that is the verdict."""
  if len(code) > MAX_CODE:
    return Verdict(0.0, 'compile', f'more than {MAX_CODE} characters of code')
  count = cases.count(record)
  passed, failure = 0, None
  suite = Suite(tier, cases.limits_of(record, limits))
  run = program_tests if cases.reads_stdin(record) else function_tests
  with contextlib.closing(run.verdicts(record, code, suite)) as verdicts:
    for n, verdict in enumerate(verdicts):
      if verdict.kind == 'infra':
        return verdict
      if verdict.value == 1:
        passed += 1
      elif failure is None:
        reason = f'test {n + 1} of {count}: {verdict.reason}'
        failure = Verdict(0.0, verdict.kind, reason)
        if not partial:
          return failure
      if n + 1 < count and suite.is_over():
        late = Verdict(0.0, 'timeout', 'the time of all tests is used up')
        failure = failure or late
        break
  if failure is None:
    return Verdict(float(passed == count), 'passed', f'tests passed: {passed}')
  reason = f'{passed} passed; {failure.reason}'
  return Verdict(passed / count if partial else 0.0, failure.kind, reason)
