"""How a program in a sandbox ends, and how its functions are called.

A program chooses what its functions answer and nothing else: every reply is
checked here and consists of plain values.
"""

import builtins
import dataclasses
import re
from typing import NamedTuple, Protocol

from r1jax.sandbox import inside, wire

MAX_REQUEST = 64 << 20  # bytes of the arguments of a call
MAX_DETAIL = 500  # characters of a program's message
# The kinds of its own end that a program may report. A program that reported
# 'infra' would not be penalised.
REPORTED_KINDS = 'compile', 'memory', 'output', 'error'
EXIT_KINDS = {0: 'passed', inside.COMPILE: 'compile', inside.MEMORY: 'memory'}
UNSUPPORTED = re.compile(r'\["\?","([^"]*)"')  # in a request
# Types of objects in answers that a request cannot encode: unsupported ones,
# and builtins that are nested too deeply.
ANSWER_TYPES = {wire.Unsupported.__name__, *(x.__name__ for x in wire.KINDS)}
# The builtin exceptions that a call raises as they are; others arrive as
# RuntimeError. None of these ends a loop or an iteration of a test.
RAISED = frozenset(
  'ArithmeticError AssertionError AttributeError EOFError FileNotFoundError '
  'IndexError KeyError LookupError MemoryError NameError NotImplementedError '
  'OSError OverflowError PermissionError RecursionError RuntimeError TypeError '
  'ValueError ZeroDivisionError'.split()
)


@dataclasses.dataclass(frozen=True)
class Limits:
  """Limits of one program, for all calls of its functions together."""

  seconds: float = 4.0  # of CPU time, rounded up; wall time: 3 x seconds + 1
  memory: int = 1 << 30  # bytes of address space
  output: int = 1 << 20  # bytes of stdout, or of one answer


DEFAULT = Limits()


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


class Channel(Protocol):
  """A connection to a loaded program."""

  def ask(self, line: bytes) -> tuple:
    """The reply to a request. Raises Stopped if there is none."""


class Program:
  """A loaded program whose functions can be called."""

  def __init__(self, channel: Channel) -> None:
    self.channel = channel
    self.stopped: Stopped | None = None  # why it can no longer be called

  def call(
    self, name: str, args: list | tuple, kwargs: dict | None = None
  ) -> object:
    """Returns the function's result as builtins; raises what it raises.

    Arguments that the function changes in place are changed here too. Raises
    Stopped if the program ends or violates the protocol, and in later calls.
    """
    args, kwargs = list(args), dict(kwargs or {})
    if self.stopped:
      raise self.stopped
    try:
      reply = self.channel.ask(encode_request(name, args, kwargs))
      kind, first, second = _checked(reply)
    except Stopped as stopped:
      self.stopped = stopped
      raise
    if kind == 'raised':
      exception = getattr(builtins, first) if first in RAISED else RuntimeError
      raise exception(second[:MAX_DETAIL])
    if second is not None:
      _assign(args, second[0])
      _assign(kwargs, second[1])
    return first


def encode_request(name: str, args: list, kwargs: dict) -> bytes:
  """The line that requests a call.

  Raises TypeError for arguments that come from the program's answers (an
  unsupported object, a list that is too deep), and Stopped of the kind 'infra'
  for those that only the test itself can have made.
  """
  try:
    text = wire.encode((name, args, kwargs), MAX_REQUEST)
  except wire.TooBig:
    raise Stopped('output', 'the arguments of a call are too long') from None
  unsupported = UNSUPPORTED.search(text)
  if unsupported is None:
    return text.encode() + b'\n'
  kind = unsupported[1]
  if kind in ANSWER_TYPES:
    raise TypeError(f'a call with an object of the type {kind}')
  raise Stopped('infra', f'a test calls with an object of the type {kind}')


def parse_reply(line: bytes) -> tuple:
  """The tuple in a line, which begins with a str. Raises Stopped for others."""
  try:
    value = wire.decode(line.decode())
  except (wire.Malformed, UnicodeDecodeError):
    value = None
  if type(value) is tuple and value and type(value[0]) is str:
    return value
  raise Stopped('error', 'the program sent a malformed reply')


def reported_end(reply: tuple) -> Stopped:
  """The Stopped that a reply (kind, detail) reports; 'error' for any other."""
  kind, detail = reply if len(reply) == 2 else ('', '')
  if kind in REPORTED_KINDS and type(detail) is str:
    return Stopped(kind, detail[:MAX_DETAIL])
  return Stopped('error', 'the program sent a malformed reply')


def _checked(reply):
  """A reply ('value', value, None or changed arguments) or ('raised', type,
  message). Raises Stopped for all others."""
  if len(reply) == 3:
    kind, first, second = reply
    if kind == 'raised' and type(first) is type(second) is str:
      return reply
    if kind == 'value' and second is None:
      return reply
    if kind == 'value' and type(second) is tuple:
      if [type(x) for x in second] == [list, dict]:
        return reply
  raise reported_end(reply)


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
