"""Code answers: programs judged by tests, which run outside the program.

The model's code runs in a sandbox and only maps inputs to outputs. Assertions
are executed here, by a trusted process, on plain values; the outputs of a
program that reads stdin are compared here. A record has one of

- `test` and `entry_point`: HumanEval's, where test defines check(candidate);
- `tests` of [{'assert': 'f(2) == 4'}, ...] and `entry_point`;
- `tests` of [{'input': '...', 'output': '...'}, ...]: a program, its stdin and
  stdout, compared without the spaces at the ends of lines and the empty lines
  at the end.

Code before the response's is the record's `prefix`; for HumanEval its prompt,
where that is Python: a response may then be the function's body alone.
"""

import contextlib
import dataclasses
import functools
import json
import math
import re

from r1jax import errors
from r1jax.rewards.code import code_block
from r1jax.rewards.verdict import Verdict
from r1jax.sandbox import tiers
from r1jax.sandbox.tiers import Stopped

KEYS = 'prompt', 'prefix', 'test', 'tests', 'entry_point'
CASES = {'assert'}, {'input', 'output'}
MAX_CODE = 1 << 20  # characters of a program
MAX_TESTS = 32 << 20  # characters of a record's tests


extract = code_block.extract


def check_tests(record):
  """Refuses a record whose tests could not be run."""
  name, tests = record['id'], record.get('tests')
  if isinstance(record.get('test'), str):
    kind = 'check'
    _check_python(name, 'test', record['test'])
    if not re.search(r'^def check\(', record['test'], re.MULTILINE):
      raise errors.UserError(
        f'the test of record {name} defines no function check(candidate)'
      )
  elif isinstance(tests, list) and tests:
    kind = _check_cases(name, tests)
  else:
    raise errors.UserError(
      f'record {name} has no tests: give it `test` (a text that defines '
      'check(candidate)) or `tests` (a list of input and output, or of assert)'
    )
  if len(json.dumps(tests_of(record))) > MAX_TESTS:
    raise errors.UserError(
      f'the tests of record {name} have more than {MAX_TESTS >> 20} MiB: drop '
      'the largest of them'
    )
  entry = record.get('entry_point')
  if kind != 'program' and not (
    isinstance(entry, str) and entry.isidentifier()
  ):
    raise errors.UserError(
      f'record {name} has tests of a function and must name it by entry_point'
    )
  if not isinstance(record.get('prefix', ''), str):
    raise errors.UserError(f'the prefix of record {name} is no text')


def _check_cases(name, tests):
  """The kind of a list of tests, all of which are alike."""
  good = all(
    isinstance(test, dict) and all(isinstance(x, str) for x in test.values())
    for test in tests
  )
  for keys in CASES if good else ():
    if all(keys <= set(test) for test in tests):
      if keys == {'input', 'output'}:
        return 'program'
      for test in tests:
        _check_python(name, 'assert', _assertion(test))
      return 'assert'
  raise errors.UserError(
    f'the tests of record {name} must all be objects with the texts `input` and '
    '`output`, or all with the text `assert`'
  )


def _check_python(name, key, text):
  if _compiled(text) is None:
    raise errors.UserError(
      f'the {key} of record {name} is not Python: {text[:60]!r}'
    )


def tests_of(record):
  """What of a record says whether an answer is right."""
  return {key: record[key] for key in KEYS if key in record}


def judged(record, code, tier, limits, partial):
  """`judge`, for a worker: plain JSON comes in and goes out, NaN as None."""
  verdict = judge(record, code, tier, tiers.Limits(**limits), partial)
  return [None if math.isnan(verdict.value) else verdict.value, *verdict[1:]]


def judge(record, code, tier, limits=tiers.DEFAULT, partial=False):
  """The Verdict on a program: 1 where it passes every test, else 0, or with
  `partial` the share that it passes (for HumanEval's check all or nothing)."""
  if code is None:
    return Verdict(0.0, 'no answer', 'there is no block of code to judge')
  if len(code) > MAX_CODE:
    return Verdict(0.0, 'compile', f'more than {MAX_CODE} characters of code')
  if 'test' in record:
    cases = [record['test']]
  elif 'assert' in record['tests'][0]:
    cases = [_assertion(x) for x in record['tests']]
  else:
    programs = _programs(record, code, tier, limits)
    return _total(programs, len(record['tests']), partial)
  with contextlib.closing(
    _functions(record, code, cases, tier, limits)
  ) as found:
    return _total(found, len(cases), partial)


def _total(found, count, partial):
  """One Verdict of those on each test, of which no more than needed is asked
  for: one that could not be judged leaves the whole unjudged."""
  passed, first = 0, None
  for n, verdict in enumerate(found):
    if verdict.kind == 'infra':
      return verdict
    if verdict.value == 1:
      passed += 1
    else:
      reason = f'test {n + 1} of {count}: {verdict.reason}'
      first = first or Verdict(0.0, verdict.kind, reason)
      if not partial:
        break
  if first is None:
    return Verdict(float(passed == count), 'passed', f'tests passed: {passed}')
  if not partial:
    return first
  return Verdict(passed / count, first.kind, f'{passed} passed; {first.reason}')


def _programs(record, code, tier, limits):
  """A Verdict for each test of a program that reads stdin."""
  parts = [x for x in (record.get('prefix'), code) if x]
  for test in record['tests']:
    room = max(limits.output, 2 * len(test['output']))
    allowed = dataclasses.replace(limits, output=room)
    kind, stdout, detail = tiers.run(tier, parts, test['input'], allowed)
    if kind != 'passed':
      yield _ended(kind, detail)
      if kind == 'compile':
        return
    elif _lines(stdout) == _lines(test['output'].encode()):
      yield Verdict(1.0, 'passed', '')
    else:
      yield Verdict(
        0.0,
        'wrong',
        f'printed {_shown(stdout)} for {_shown(test["input"])}, '
        f'wanted {_shown(test["output"])}',
      )


def _functions(record, code, cases, tier, limits):
  """A Verdict for each test of a function, of which a program that ends gets
  the next in a new process; one that does not load gets no other."""
  head = _head(record)
  parts, cases = _parts(head, code), list(cases)
  while cases:
    try:
      with tiers.opened(tier, parts, limits) as program:
        while cases and not program.stopped:
          yield _judged_case(record, head, program, cases.pop(0))
    except Stopped as stopped:
      yield _ended(stopped.kind, stopped.detail)
      return


def _judged_case(record, head, program, case):
  """The Verdict on one test, whose assertions are executed here."""
  remote, names = Remote(program, record['entry_point']), {'__name__': 'test'}
  try:
    # What the prompt defines beside the function is the test's to use.
    exec(_compiled(head) or '', names)
  except Exception as error:
    return _ended('infra', f'what stands before the code fails: {_told(error)}')
  try:
    names[record['entry_point']] = names['candidate'] = remote
    exec(_compiled(case), names)
    if 'test' in record:
      remote.calls = 0
      names['check'](remote)
    problem = None
  except Exception as error:
    problem = error
  if program.stopped:  # even where the test has swallowed that
    return _ended(program.stopped.kind, program.stopped.detail)
  if problem is None and remote.calls:
    return Verdict(1.0, 'passed', '')
  if problem is None:
    return Verdict(0.0, 'wrong', 'the test called nothing')
  kind = 'error' if problem is remote.raised else 'wrong'
  if kind == 'error' and isinstance(problem, MemoryError):
    kind = 'memory'
  return Verdict(0.0, kind, _told(problem))


class Remote:
  """The candidate that a test calls: it is elsewhere."""

  def __init__(self, program, name):
    self.program, self.name = program, name
    self.calls, self.raised = 0, None

  def __call__(self, *args, **kwargs):
    self.calls += 1
    try:
      return self.program.call(self.name, args, kwargs)
    except Stopped:
      raise
    except Exception as error:
      self.raised = error
      raise


def _ended(kind, detail):
  """The Verdict on a program that ended before it could answer."""
  return Verdict(math.nan if kind == 'infra' else 0.0, kind, _plain(detail))


def _told(error):
  try:
    text = str(error)[:300]
  except ValueError:  # an integer of more digits than Python writes
    text = ''
  return _plain(f'{type(error).__name__}: {text}'.removesuffix(': '))


def _plain(text):
  """One line without what a terminal or a file might stumble over."""
  text = ' '.join(text.split())
  return ''.join(
    c if c.isprintable() else '\N{REPLACEMENT CHARACTER}' for c in text
  )


def _head(record):
  """The code before a response's: the prefix, or a prompt that is Python."""
  if 'prefix' in record:
    return record['prefix']
  prompt = record.get('prompt')
  is_code = isinstance(prompt, str) and 'test' in record and _compiled(prompt)
  return prompt if is_code else ''


def _parts(head, code):
  """The program's texts: a body belongs to the function that head begins."""
  lines = [x for x in code.splitlines() if x.strip()]
  if head and lines and lines[0][0] in ' \t':
    return [head.rstrip('\n') + '\n' + code]
  return [x for x in (head, code) if x]


def _assertion(test):
  text = test['assert'].strip()
  return text if text.startswith('assert ') else f'assert ({text})'


@functools.lru_cache(1024)
def _compiled(text):
  """The text as Python, or None; python -O would take the assertions out."""
  try:
    return compile(text, 'test', 'exec', dont_inherit=True, optimize=0)
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return None


def _lines(data):
  """Output as it is compared: no spaces at the ends of lines, no empty lines
  at the end."""
  return b'\n'.join(x.rstrip() for x in data.split(b'\n')).rstrip(b'\n')


def _shown(data):
  text = data.decode('utf-8', 'replace') if isinstance(data, bytes) else data
  return repr(text if len(text) <= 80 else text[:77] + '…')
