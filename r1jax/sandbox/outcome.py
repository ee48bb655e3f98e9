"""How sandboxed programs end and how their functions are called. A program
controls only the return values of its functions: plain values, checked here."""

import builtins
import dataclasses
import re
from typing import Any, NamedTuple

from r1jax.sandbox import inside, wire

MAX_REQUEST = 64 << 20  # bytes of the arguments of a call
MAX_DETAIL = 500  # characters of a program's message
MAX_NAME = 80  # characters of the name of an exception
WALL_TIME = 'the limit of wall time was exceeded'  # of a program that sleeps
# Kinds that a program may report; not 'infra', which is not penalised.
REPORTED_KINDS = 'compile', 'memory', 'output', 'error'
EXIT_KINDS = {code: kind for kind, code in inside.EXIT_CODES.items()}
UNSUPPORTED = re.compile(r'\["\?","([^"]*)"')  # in a request
# Types of objects in answers that a request cannot encode: unsupported ones,
# and builtins that are nested too deeply.
ANSWER_TYPES = {wire.Unsupported.__name__, *(x.__name__ for x in wire.KINDS)}
# The builtin exceptions that a call raises as they are; others arrive as a new
# subclass of one of these, with their name. None ends a loop or an iteration.
RAISED = frozenset(
  'ArithmeticError AssertionError AttributeError EOFError FileNotFoundError '
  'IndexError KeyError LookupError MemoryError NameError NotImplementedError '
  'OSError OverflowError PermissionError RecursionError RuntimeError TypeError '
  'ValueError ZeroDivisionError'.split()
)


@dataclasses.dataclass(frozen=True)
class Limits:
  """Limits of a program: of each test, which is a run or a call of a function,
  and of the whole suite, which is all tests of one program.

  What a program reads and answers is not part of a call's time. A limit of 0 is
  derived from the others.
  """

  seconds: float = 6.0  # CPU time of a test
  memory: int = 1 << 30  # bytes of address space
  output: int = 16 << 20  # bytes of stdout, or of one answer
  wall: float = 0.0  # seconds of wall time of a test; 0: 2 x seconds + 5
  suite_seconds: float = 0.0  # CPU time of all tests; 0: no limit
  suite_wall: float = 0.0  # seconds of wall time of all tests; 0: no limit

  @property
  def max_wall(self) -> float:
    """Seconds of wall time of one test."""
    wall = self.wall or 2 * self.seconds + 5
    return min(wall, self.suite_wall or wall)

  @property
  def max_seconds(self) -> float:
    """CPU seconds of one test."""
    return min(self.seconds, self.suite_seconds or self.seconds)


@dataclasses.dataclass
class Spent:
  """What the programs of a suite have used."""

  seconds: float = 0.0  # of CPU time
  delay: float = 0.0  # seconds of waiting for a CPU, which are not wall time


class Outcome(NamedTuple):
  """kind: 'passed' (the program ended without an error), 'error', 'compile',
  'timeout', 'memory', 'output', or 'infra' if the sandbox itself failed."""

  kind: str
  stdout: bytes
  detail: str


class Stopped(Exception):
  """A program ended before it answered. kind is as in Outcome."""

  def __init__(self, kind: str, detail: str) -> None:
    super().__init__(f'{kind}: {detail}')
    self.kind, self.detail = kind, detail


class Program:
  """A loaded program. `channel`, a Process or a ServiceChannel, has a method
  ask(request) that returns the reply or raises Stopped."""

  def __init__(self, channel: Any) -> None:
    self.channel = channel
    self.stopped: Stopped | None = None  # why it can no longer be called

  def call(self, name: str, args: list, kwargs: dict | None = None) -> object:
    """Returns the function's result as builtins; raises what it raises.

    Changes the arguments as the function does. Raises Stopped if the program
    ends or violates the protocol, and in later calls.
    """
    kwargs = kwargs or {}
    if self.stopped:
      raise self.stopped
    try:
      reply = self.channel.ask(_request(name, args, kwargs))
      kind, first, second = _checked(reply)
    except Stopped as stopped:
      self.stopped = stopped
      raise
    if kind == 'raised':
      raise _exception(first, second[:MAX_DETAIL])
    if second is not None:
      _assign(args, second[0])
      _assign(kwargs, second[1])
    return first


def parse_reply(line: bytes) -> object:
  """The value in a line. Raises Stopped for a malformed one."""
  try:
    return wire.decode(line.decode())
  except (wire.Malformed, UnicodeDecodeError):
    raise reported_end(None) from None


def reported_end(reply: object) -> Stopped:
  """The Stopped that a reply (kind, detail) reports; 'error' for any other."""
  match reply:
    case (str(kind), str(detail)) if kind in REPORTED_KINDS:
      return Stopped(kind, detail[:MAX_DETAIL])
  return Stopped('error', 'the program sent a malformed reply')


def _request(name, args, kwargs):
  """The line that requests a call. Raises TypeError for an unsupported object
  from the program's answers, Stopped for one that only the test can make."""
  try:
    text = wire.encode((name, args, kwargs), MAX_REQUEST)
  except wire.TooBig:
    raise Stopped('output', 'the arguments of a call are too long') from None
  unsupported = UNSUPPORTED.search(text)
  if unsupported is None:
    return text.encode() + b'\n'
  problem = f'a call with an object of the type {unsupported[1]}'
  if unsupported[1] in ANSWER_TYPES:
    raise TypeError(problem)
  raise Stopped('infra', f'a test makes {problem}')


def _checked(reply):
  """A reply ('value', value, None or changed arguments) or ('raised', names of
  the type and its bases, message). Raises Stopped for all others."""
  match reply:
    case ('raised', [str(), *_], str()) | ('value', _, None | (list(), dict())):
      return reply
  raise reported_end(reply)


def _exception(names, message):
  """An exception of the name and of the first base that may be raised."""
  base = next((x for x in names if x in RAISED), 'RuntimeError')
  kind, name = getattr(builtins, base), names[0]
  if name != base and name.isidentifier() and len(name) <= MAX_NAME:
    kind = type(name, (kind,), {})
  return kind(message)


def _assign(old, new):
  """Returns new, as old itself with the content of new if old is mutable."""
  if type(old) is not type(new):
    return new
  if type(old) is tuple and len(old) == len(new):
    items = tuple(_assign(x, y) for x, y in zip(old, new))
    return old if all(x is y for x, y in zip(old, items)) else items
  if type(old) is list:
    old[:] = [_assign(x, y) for x, y in zip(old, new)] + new[len(old) :]
  elif type(old) is dict:
    content = {key: _assign(old.get(key), x) for key, x in new.items()}
    old.clear()
    old.update(content)
  elif type(old) is set:
    old.clear()
    old.update(new)
  else:
    return new
  return old
