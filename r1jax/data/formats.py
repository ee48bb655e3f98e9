"""Records from problems for programs with tests: LiveCodeBench, and Codeforces
in the form that open-r1 publishes. A problem that cannot be judged as its own
judge does is left out, since another verdict would be a wrong one."""

import ast
import base64
import binascii
import json
import re
import sys
import zlib
from collections.abc import Mapping
from typing import Any

from r1jax.data import plain_pickle

Record = Mapping[str, Any]

MIN_CUT = 250  # characters of a long test that Codeforces shows, at least
MAX_TESTS = 32 << 20  # characters of a problem's tests as JSON, and of a pickle
# Modules that need processes or sockets, which the sandbox denies.
DENIED = {'subprocess', 'multiprocessing', 'socket', 'requests'}
ANY_CASE = re.compile(
  r'\b(print|output)\b[^.\n]*\bin any (case|register)\b|\bcase[- ]insensitive',
  re.I,
)


class LeftOut(Exception):
  """A problem that cannot be judged; the text says why."""


def codeforces(row: Record) -> Record:
  """The prompt is the statement and the formats; tests are pairs of standard
  input and output, with the checker and the limits of the problem."""
  reason = _codeforces_problem(row)
  if reason:
    raise LeftOut(reason)
  parts = [row['description']]
  for key, title in (('input_format', 'Input'), ('output_format', 'Output')):
    if row.get(key):
      parts.append(f'{title}\n{row[key]}')
  tests = _input_output_tests(row['official_tests'])
  record = dict(id=str(row['id']), prompt='\n\n'.join(parts), tests=tests)
  if row.get('generated_checker'):
    record['checker'] = row['generated_checker']
  elif ANY_CASE.search('\n'.join(parts)) and _words(tests) <= {'yes', 'no'}:
    record['ignore_case'] = True
  for key in ('time_limit', 'memory_limit'):
    if row.get(key) is not None:
      record[key] = float(row[key])
  return record


def livecodebench(row: Record) -> Record:
  """A program that reads standard input, or a method of a class Solution, with
  the public and the private tests."""
  record = dict(id=str(row['question_id']), prompt=row['question_content'])
  tests = row['public_test_cases']
  tests = json.loads(tests) if isinstance(tests, str) else list(tests)
  private = row.get('private_test_cases')
  if not private:
    raise LeftOut('its private tests are missing')
  tests += _private_tests(private)
  if reason := 'it has no tests' if not tests else _size_problem(tests):
    raise LeftOut(reason)
  types = {test['testtype'] for test in tests}
  if types == {'stdin'}:
    return record | dict(tests=_input_output_tests(tests), imports=True)
  if types != {'functional'}:
    raise ValueError(f'tests of the types {sorted(types)}')
  metadata = row['metadata']
  if isinstance(metadata, str):
    metadata = json.loads(metadata)
  name = metadata['func_name']
  if not name.isidentifier():
    raise ValueError(f'the function {name!r}')
  return record | dict(
    prompt=f'{record["prompt"]}\n\n{row["starter_code"]}',
    entry_point=name,
    tests=[_call_test(test) for test in tests],
  )


def mbpp(row: Record) -> Record:
  """A function of MBPP, whose name the prompt tells by the tests."""
  tests = row['test_list']
  names = [x.name for x in ast.parse(row['code']).body if hasattr(x, 'name')]
  called = [x for x in names if re.search(rf'\b{x}\s*\(', tests[0])]
  if not called:
    raise ValueError('no function of its code is called in its test_list')
  task, shown = row.get('text') or row['prompt'], '\n'.join(tests)
  setup = [*row.get('test_imports', []), row.get('test_setup_code', '')]
  record = dict(
    id=str(row['task_id']),
    prompt=f'{task}\nYour code should pass these tests:\n{shown}',
    entry_point=called[-1],
    tests=[{'assert': test} for test in tests],
  )
  if any(setup):
    record['prefix'] = '\n'.join(setup)
  return record


READERS = dict(livecodebench=livecodebench, codeforces=codeforces, mbpp=mbpp)


def _codeforces_problem(row):
  """Why a problem of Codeforces cannot be judged, '' if it can."""
  tests = row['official_tests']
  if row.get('interaction_format'):
    return 'it is interactive'
  if row.get('input_mode') not in (None, '', 'stdio'):
    return 'it reads files'
  if row.get('executable') is False:
    return 'its tests are not executable'
  if not tests:
    if tests is None:
      raise TypeError('official_tests is NoneType')
    return 'it has no official tests'
  is_complete = row.get('official_tests_complete', True)
  if not is_complete or len(tests) < (row.get('testset_size') or 0):
    return 'its official tests are incomplete'
  for test in _input_output_tests(tests):
    # Codeforces shows the beginning of a long test. Short grids may end so too.
    for text in test.values():
      if len(text) >= MIN_CUT and text.rstrip().endswith('...'):
        return 'its official tests are incomplete'
  if checker := row.get('generated_checker'):
    if reason := _checker_problem(checker):
      return reason
  return _size_problem(tests)


def _checker_problem(text):
  """Why a checker cannot be run in the sandbox, '' if it can."""
  try:
    tree = ast.parse(text)
  except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
    return 'its checker is not Python'
  if not re.search(r'\bprint\b|\bstdout\b|\bwrite\b', text):
    return 'its checker prints nothing'
  modules = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      modules |= {x.name.partition('.')[0] for x in node.names}
    elif isinstance(node, ast.ImportFrom):
      modules.add((node.module or '').partition('.')[0])
  known = {*sys.stdlib_module_names, 'numpy'} - DENIED
  missing = sorted(modules - known)
  return f'its checker needs the module {missing[0]}' if missing else ''


def _words(tests):
  """The words of letters in the outputs, in lower case."""
  texts = ' '.join(test['output'] for test in tests)
  return {word.lower() for word in re.findall(r'[^\W\d_]+', texts)}


def _size_problem(tests):
  is_large = len(json.dumps(tests)) > MAX_TESTS
  return f'its tests exceed {MAX_TESTS >> 20} MiB' if is_large else ''


def _private_tests(text):
  """The private tests of LiveCodeBench: JSON, or base64 of a compressed pickle
  of JSON."""
  if text.lstrip().startswith('['):
    return json.loads(text)
  try:
    packed = base64.b64decode(text)
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, MAX_TESTS + 1)
  except (binascii.Error, zlib.error) as error:
    raise ValueError(f'the private tests: {error}') from None
  if len(data) > MAX_TESTS:
    raise LeftOut(f'its tests exceed {MAX_TESTS >> 20} MiB')
  if not unpacker.eof:
    raise ValueError('the private tests are cut off')
  tests = plain_pickle.loads(data)
  if isinstance(tests, str):
    tests = json.loads(tests)
  if not isinstance(tests, list):
    raise ValueError('the private tests are not a list')
  return tests


def _input_output_tests(tests):
  return [dict(input=test['input'], output=test['output']) for test in tests]


def _call_test(test):
  """One line of JSON an argument, and JSON of the result."""
  args = [json.loads(line) for line in test['input'].strip('\n').split('\n')]
  return dict(args=args, result=json.loads(test['output']))
