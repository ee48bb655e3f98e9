"""Tests of functions. The function runs in the sandbox; the tests run in this
trusted process on plain values."""

from collections.abc import Iterator

from r1jax.rewards.code import cases, comparison
from r1jax.rewards.code.suite import Suite, one_line
from r1jax.rewards.verdict import Record, Verdict, quote
from r1jax.sandbox import inside, tiers, wire
from r1jax.sandbox.tiers import Stopped

PLAIN = 'None, bool, int, float, complex, str, bytes, list, tuple, set and dict'


def verdicts(record: Record, code: str, suite: Suite) -> Iterator[Verdict]:
  """The verdicts on the tests. If the program ends, the next test runs in a new
  process; if it does not load, there are no further verdicts."""
  tests = [record['test']] if 'test' in record else list(record['tests'])
  head = cases.head(record)
  parts = [part for part in (head, code) if part]
  lines = [line for line in code.splitlines() if line.strip()]
  if head and lines and lines[0][0] in ' \t':  # the body of the head's function
    parts = [head.rstrip('\n') + '\n' + code]
  given = cases.given(record)
  while tests:
    try:
      with tiers.open_program(
        suite.tier, parts, suite.limits(), given, suite.spent
      ) as program:
        while tests and not program.stopped:
          yield _run_test(record, given, program, suite, tests.pop(0))
    except Stopped as stopped:
      yield suite.ended(stopped.kind, stopped.detail)
      return


def _run_test(record, given, program, suite, test):
  """The Verdict on one test, which runs in this process."""
  owner, name = cases.entry_point(record)
  names = {'__name__': 'test'}
  function = RemoteFunction(
    program, f'{owner}.{name}' if owner else name, names
  )
  try:
    # A test may use helpers that the prompt defines.
    exec(cases.compiled(cases.head(record)) or '', names)
  except Exception as error:
    reason = f'the code before the response fails: {_str(error)}'
    return suite.ended('infra', reason)
  problem = None
  try:
    names[name] = names['candidate'] = function
    owner = name if name == 'Solution' else owner or 'Solution'
    names[owner] = RemoteClass(function, owner)
    if isinstance(test, dict) and 'args' in test:
      _compare(function, test, record.get('tolerance', 0.0))
    else:
      text = test if isinstance(test, str) else cases.assertion(test)
      test_code = cases.compiled(text)
      inside.provide(test_code, given.get('names', {}), names)
      exec(test_code, names)
    if 'test' in record:
      function.calls = 0
      names['check'](function)
  except Exception as error:
    problem = error
  if program.stopped:  # also if the test has caught the exception
    return suite.ended(program.stopped.kind, program.stopped.detail)
  if problem is None and function.calls:
    return Verdict(1.0, 'passed', '')
  if problem is None:
    return Verdict(0.0, 'wrong', 'the test does not call the function')
  kind = 'error' if problem is function.raised else 'wrong'
  if kind == 'error' and isinstance(problem, MemoryError):
    kind = 'memory'
  reason = _str(problem)
  if foreign := _foreign(function.answer):
    reason = (
      f'the function returned an object of the type {foreign}, which cannot '
      f'leave the sandbox: return {PLAIN} ({reason})'
    )
  return Verdict(0.0, kind, one_line(reason))


class RemoteFunction:
  """A function of a program in the sandbox, as tests call it."""

  def __init__(self, program, name, names):
    self.program, self.name, self.names = program, name, names
    self.calls, self.answer = 0, None
    self.raised = None  # raised by the last call that failed

  def __call__(self, *args, **kwargs):
    return self.call(self.name, args, kwargs)

  def call(self, name, args, kwargs):
    self.calls += 1
    self.answer = None
    try:
      self.answer = self.program.call(name, list(args), kwargs)
      return self.answer
    except Exception as error:
      self.raised = self._own(error)
      raise self.raised from None

  def _own(self, error):
    """The exception, as one of the test's own class of the same name."""
    kind = self.names.get(type(error).__name__)
    is_own = isinstance(kind, type) and issubclass(kind, Exception)
    if not is_own or issubclass(kind, (StopIteration, StopAsyncIteration)):
      return error
    try:
      return kind(str(error))
    except Exception:
      return error


class RemoteClass:
  """A class of the program, of which tests call methods of new objects."""

  def __init__(self, function, name):
    self._function, self._name = function, name

  def __call__(self):
    return self

  def __getattr__(self, name):
    if name.startswith('__'):
      raise AttributeError(name)

    def method(*args, **kwargs):
      return self._function.call(f'{self._name}.{name}', args, kwargs)

    return method


def _compare(function, test, tolerance):
  """Raises AssertionError if the function does not return what is expected."""
  answer = function(*test['args'])
  if not comparison.same_answer(answer, test['result'], tolerance):
    found, wanted = quote(_repr(answer)), quote(_repr(test['result']))
    called = quote(_repr(test['args']))
    raise AssertionError(f'{found} instead of {wanted} for {called}')


def _foreign(answer):
  """The type of an object in the answer that is no plain value, or ''."""
  if type(answer) is wire.Unsupported:
    return answer.kind
  if type(answer) is dict:
    answer = [*answer.keys(), *answer.values()]
  if type(answer) in (list, tuple, set, frozenset):
    return next(filter(None, map(_foreign, answer)), '')
  return ''


def _repr(value):
  try:
    return repr(value)
  except ValueError:  # an integer with more digits than Python converts
    return f'a {type(value).__name__}'


def _str(error):
  try:
    text = str(error)[:300]
  except ValueError:  # an integer with more digits than Python converts
    text = ''
  return one_line(f'{type(error).__name__}: {text}'.removesuffix(': '))
