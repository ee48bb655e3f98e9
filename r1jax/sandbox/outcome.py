"""How a program in a sandbox ends, and what its replies mean here, where
nothing of what it says is believed but its choice of an answer."""

import dataclasses
import re
from typing import NamedTuple

from r1jax.sandbox import wire

MAX_REQUEST = 64 << 20  # bytes of a call's arguments
UNSENT = re.compile(r'\["\?","([^"]*)"')
OF_ANSWERS = {wire.Unsupported.__name__, *(x.__name__ for x in wire.KINDS)}
# Exceptions that a call may raise here: those that no loop or iteration in a
# test would take for its own end.
RAISED = {
  x.__name__: x
  for x in (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    FileNotFoundError,
    IndexError,
    KeyError,
    LookupError,
    MemoryError,
    NameError,
    NotImplementedError,
    OSError,
    OverflowError,
    PermissionError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    ZeroDivisionError,
  )
}


@dataclasses.dataclass(frozen=True)
class Limits:
  """What one program may use, all its calls together."""

  seconds: float = 4.0  # of CPU time, rounded up; by the clock 3 x seconds + 1
  memory: int = 1 << 30  # bytes of address space
  output: int = 1 << 20  # bytes of its stdout, or of one answer


DEFAULT = Limits()


class Outcome(NamedTuple):
  """kind: 'passed' (it ended well), 'error', 'compile', 'timeout', 'memory',
  'output', or 'infra' where the sandbox failed and nothing can be said."""

  kind: str
  stdout: bytes
  detail: str


class Stopped(Exception):
  """A program ended, of a kind as in Outcome, before it gave an answer."""

  def __init__(self, kind, detail):
    super().__init__(kind, detail)
    self.kind, self.detail = kind, detail

  def __str__(self):
    return f'{self.kind}: {self.detail}'


class Program:
  """A program's functions; `ask` brings a line to it and its reply back."""

  def __init__(self, ask):
    self.ask, self.stopped = ask, None

  def call(self, name, args, kwargs=None):
    """What the function answers, exact builtins; raises what it raised.

    Arguments that it changed are changed here too. Stopped when the program
    ended or broke the protocol, and at every later call.
    """
    args, kwargs = list(args), dict(kwargs or {})
    if self.stopped:
      raise self.stopped
    try:
      reply = self.ask(request(name, args, kwargs))
      said = answer(reply)
    except Stopped as stopped:
      self.stopped = stopped
      raise
    return given(said, args, kwargs)


def request(name, args, kwargs):
  """The line that asks for a call.

  TypeError for what the program made so (an object of its own, too deep a
  list); Stopped of the kind 'infra' for what only the test can have made.
  """
  try:
    text = wire.encode((name, args, kwargs), MAX_REQUEST)
  except wire.TooBig:
    raise Stopped('output', 'the arguments of a call are too long') from None
  for kind in UNSENT.findall(text):
    if kind not in OF_ANSWERS:
      raise Stopped('infra', f'a test calls with an object of the type {kind}')
    raise TypeError(f'a call with an object of the type {kind}')
  return text.encode() + b'\n'


def read(line):
  """The tuple of texts and values that a line of reply is."""
  try:
    value = wire.decode(line.decode())
  except (wire.Malformed, UnicodeDecodeError):
    raise Stopped('error', 'it wrote what is no answer') from None
  if type(value) is not tuple or not value or type(value[0]) is not str:
    raise Stopped('error', 'it wrote what is no answer')
  return value


def answer(value):
  """('value', value, changed arguments) or ('raised', type, message)."""
  kind, *rest = value
  if kind == 'raised' and len(rest) == 2 and all(type(x) is str for x in rest):
    return kind, *rest
  if kind == 'value' and len(rest) == 2 and arguments(rest[1]):
    return kind, *rest
  raise stopped(value)


def stopped(reply):
  """Stopped, for a reply that is no answer; a program may not claim every kind
  for itself: never 'infra', nor 'passed'."""
  kind, detail = reply if len(reply) == 2 else ('error', '')
  known = kind in ('compile', 'memory', 'output', 'error')
  if not known or type(detail) is not str:
    return Stopped('error', 'it wrote what is no answer')
  return Stopped(kind, detail[:500])


def arguments(value):
  """Whether it has the form of a call's changed arguments, or says of none."""
  return value is None or (
    type(value) is tuple and tuple(map(type, value)) == (list, dict)
  )


def given(answer, args, kwargs):
  """The value of a call, its changed arguments put in their places."""
  kind, first, second = answer
  if kind == 'raised':
    raise RAISED.get(first, RuntimeError)(second[:500])
  if second is not None:
    changed(args, second[0])
    changed(kwargs, second[1])
  return first


def changed(old, new):
  """new, as old itself with new's content where old can be changed."""
  if type(old) is not type(new):
    return new
  if type(old) is tuple and len(old) == len(new):
    items = tuple(changed(x, y) for x, y in zip(old, new))
    return old if all(x is y for x, y in zip(old, items)) else items
  if type(old) is list:
    old[:] = [changed(x, y) for x, y in zip(old, new)] + new[len(old) :]
  elif type(old) is dict:
    content = {key: changed(old.get(key), x) for key, x in new.items()}
    old.clear()
    old.update(content)
  elif type(old) is set:
    old.clear()
    old.update(new)
  else:
    return new
  return old
