"""Runs a record's unit tests against a program. The program runs in a sandbox;
assertions run in this trusted process on plain values.

A record has one of
- `test` and `entry_point`, as in HumanEval: `test` defines check(candidate);
- `tests`, a list of {'assert': 'f(2) == 4'}, and `entry_point`;
- `tests`, a list of {'input': '...', 'output': '...'}: stdin and stdout of a
  program. Spaces at the ends of lines and empty lines at the end are ignored.
Its `prefix`, or with `test` its prompt if that is Python, precedes the code of
the response, which may then be the body of the function.
"""

import contextlib
import dataclasses
import functools
import json
import math
import re
from collections.abc import Sequence

from r1jax import errors
from r1jax.rewards.verdict import Record, Verdict, quote
from r1jax.sandbox import tiers
from r1jax.sandbox.tiers import Limits, Stopped, Tier

KEYS = 'prompt', 'prefix', 'test', 'tests', 'entry_point'
MAX_CODE = 1 << 20  # characters of a program
MAX_TESTS = 32 << 20  # characters of a record's tests


def is_code(record: Record) -> bool:
  """Whether answers to the record are programs, which its tests verify."""
  return 'test' in record or 'tests' in record


def check_tests(record: Record) -> None:
  """Raises a UserError if the record's tests cannot be run."""
  name, is_program = f'record {record["id"]}', False
  test, tests = record.get('test'), record.get('tests')
  if isinstance(test, str):
    sources = [test]
    if not re.search(r'^def check\(', test, re.MULTILINE):
      raise errors.UserError(f'{name}: `test` does not define check(candidate)')
  elif isinstance(tests, list) and tests:
    keys = set.intersection(*map(_string_keys, tests))
    is_program = 'assert' not in keys
    if is_program and not keys >= {'input', 'output'}:
      raise errors.UserError(
        f'the tests of {name} must all be objects with the strings `input` and '
        '`output`, or all with the string `assert`'
      )
    sources = [] if is_program else list(map(_assertion, tests))
  else:
    raise errors.UserError(
      f'{name} has no tests: add `test` (code that defines check(candidate)) '
      'or `tests` (a list of input and output, or of assert)'
    )
  for text in sources:
    if _compiled(text) is None:
      raise errors.UserError(f'a test of {name} is not Python: {text[:60]!r}')
  if len(json.dumps(tests_of(record))) > MAX_TESTS:
    raise errors.UserError(f'the tests of {name} exceed {MAX_TESTS >> 20} MiB')
  entry = record.get('entry_point')
  has_name = isinstance(entry, str) and entry.isidentifier()
  if not is_program and not has_name:
    raise errors.UserError(f'{name} tests a function: add its `entry_point`')
  if not isinstance(record.get('prefix', ''), str):
    raise errors.UserError(f'the prefix of {name} is not a string')


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
  count = 1 if 'test' in record else len(record['tests'])
  passed, failure = 0, None
  if 'test' in record or 'assert' in record['tests'][0]:
    verdicts = _test_function(record, code, tier, limits)
  else:
    verdicts = _test_program(record, code, tier, limits)
  with contextlib.closing(verdicts):
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
  if failure is None:
    return Verdict(float(passed == count), 'passed', f'tests passed: {passed}')
  reason = f'{passed} passed; {failure.reason}'
  return Verdict(passed / count, failure.kind, reason)


def _string_keys(test):
  """The keys of an object that has only strings."""
  if isinstance(test, dict) and all(isinstance(x, str) for x in test.values()):
    return set(test)
  return set()


def _test_program(record, code, tier, limits):
  """The verdicts on the tests of a program that reads stdin."""
  parts = [part for part in (record.get('prefix'), code) if part]
  for test in record['tests']:
    max_output = max(limits.output, 2 * len(test['output']))
    allowed = dataclasses.replace(limits, output=max_output)
    kind, stdout, detail = tiers.run(tier, parts, test['input'], allowed)
    if kind != 'passed':
      yield _ended(kind, detail)
      if kind == 'compile':
        return
    elif _stripped(stdout) == _stripped(test['output'].encode()):
      yield Verdict(1.0, 'passed', '')
    else:
      printed, stdin = stdout.decode(errors='replace'), quote(test['input'])
      wanted = f'{stdin}, expected {quote(test["output"])}'
      yield Verdict(0.0, 'wrong', f'printed {quote(printed)} for {wanted}')


def _test_function(record, code, tier, limits):
  """The verdicts on the tests of a function. If the program ends, the next test
  runs in a new process; if it does not load, there are no further verdicts."""
  if 'test' in record:
    cases = [record['test']]
  else:
    cases = [_assertion(test) for test in record['tests']]
  head = _head(record)
  parts = [part for part in (head, code) if part]
  lines = [line for line in code.splitlines() if line.strip()]
  if head and lines and lines[0][0] in ' \t':  # the body of the head's function
    parts = [head.rstrip('\n') + '\n' + code]
  while cases:
    try:
      with tiers.open_program(tier, parts, limits) as program:
        while cases and not program.stopped:
          yield _run_test(record, head, program, cases.pop(0))
    except Stopped as stopped:
      yield _ended(stopped.kind, stopped.detail)
      return


def _run_test(record, head, program, case):
  """The Verdict on one test, which runs in this process."""
  name = record['entry_point']
  function = RemoteFunction(program, name)
  names = {'__name__': 'test'}
  try:
    # A test may use helpers that the prompt defines.
    exec(_compiled(head) or '', names)
  except Exception as error:
    return _ended('infra', f'the code before the response fails: {_str(error)}')
  problem = None
  try:
    names[name] = names['candidate'] = function
    exec(_compiled(case), names)
    if 'test' in record:
      function.calls = 0
      names['check'](function)
  except Exception as error:
    problem = error
  if program.stopped:  # also if the test has caught the exception
    return _ended(program.stopped.kind, program.stopped.detail)
  if problem is None and function.calls:
    return Verdict(1.0, 'passed', '')
  if problem is None:
    return Verdict(0.0, 'wrong', 'the test does not call the function')
  kind = 'error' if problem is function.raised else 'wrong'
  if kind == 'error' and isinstance(problem, MemoryError):
    kind = 'memory'
  return Verdict(0.0, kind, _str(problem))


class RemoteFunction:
  """A function of a program in the sandbox, as tests call it."""

  def __init__(self, program, name):
    self.program, self.name = program, name
    self.calls, self.raised = 0, None  # raised by the last call that failed

  def __call__(self, *args, **kwargs):
    self.calls += 1
    try:
      return self.program.call(self.name, list(args), kwargs)
    except Exception as error:
      self.raised = error
      raise


def _ended(kind, detail):
  """The Verdict on a program that ended before its tests."""
  return Verdict(math.nan if kind == 'infra' else 0.0, kind, _one_line(detail))


def _str(error):
  try:
    text = str(error)[:300]
  except ValueError:  # an integer with more digits than Python converts
    text = ''
  return _one_line(f'{type(error).__name__}: {text}'.removesuffix(': '))


def _one_line(text):
  """The text without line breaks and characters that cannot be printed."""
  text = ' '.join(text.split())
  return ''.join(c if c.isprintable() else '\ufffd' for c in text)


def _head(record):
  """The code before the response's: the prefix, or a prompt that is Python."""
  if 'prefix' in record:
    return record['prefix']
  prompt = record.get('prompt')
  is_code = isinstance(prompt, str) and 'test' in record and _compiled(prompt)
  return prompt if is_code else ''


def _assertion(test):
  text = test['assert'].strip()
  return text if text.startswith('assert ') else f'assert ({text})'


@functools.lru_cache(1024)
def _compiled(text):
  """The compiled text; None if it is not Python."""
  try:
    # optimize=0 keeps the assertions under python -O.
    return compile(text, 'test', 'exec', dont_inherit=True, optimize=0)
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return None


def _stripped(output):
  """The output without spaces at the ends of lines and empty last lines."""
  lines = [line.rstrip() for line in output.split(b'\n')]
  return b'\n'.join(lines).rstrip(b'\n')
