"""SIGTERM, SIGHUP and SIGINT (Ctrl-C) ask a process to end.

A thread receives them. Python's own handlers run in the main thread, which may
be inside a device program for minutes, and the KeyboardInterrupt of SIGINT is
lost if it is raised in a callback, such as jax's of the garbage collector.

One request to end is one request: when a machine shuts down, SIGTERM reaches
each process of a session, often SIGHUP too, and a supervisor passes its own on.
Signals within a grace period after the first are the same request.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from r1jax import errors

REQUESTS = signal.SIGTERM, signal.SIGHUP, signal.SIGINT
# Seconds after the first signal in which another is the same request: the
# notice before a spot VM is stopped; and a key that is pressed twice.
GRACE = {signal.SIGTERM: 30.0, signal.SIGHUP: 30.0, signal.SIGINT: 2.0}
_is_command = False  # whether this process is one command


class Requests:
  """The signals of a process that ask it to end, as one request."""

  def __init__(self) -> None:
    self.first: int | None = None
    self.time = 0.0

  def add(self, number: int) -> str:
    """What a signal is: 'first', 'same' request, or 'again' after GRACE."""
    if self.first is None:
      self.first, self.time = number, time.monotonic()
      return 'first'
    is_again = time.monotonic() - self.time >= GRACE[signal.Signals(number)]
    return 'again' if is_again else 'same'

  def raise_first(self) -> None:
    """Raises the exception of the first signal, if there was one."""
    if self.first is not None:
      raise error_of(self.first)


def error_of(number: int) -> BaseException:
  """The exception that ends a run when a signal asks for it."""
  if number == signal.SIGINT:
    return KeyboardInterrupt('the same command resumes the run')
  return errors.Terminated()


@contextlib.contextmanager
def received(
  receive: Callable[[int], None],
  interrupt: Callable[[int, FrameType | None], None] | None = None,
) -> Iterator[None]:
  """Within this context a thread calls receive(number) for each request, except
  those that the process ignores, as SIGHUP under nohup. The main thread does
  nothing, or calls `interrupt` at SIGINT. In a notebook, SIGINT is left alone:
  KeyboardInterrupt ends the cell."""
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  thread = threading.Thread(
    target=_receive, args=(reader, receive), daemon=True, name='signals'
  )
  thread.start()
  try:
    with _handlers(interrupt or _ignore, _ignore):
      wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
      try:
        yield
      finally:
        signal.set_wakeup_fd(wakeup)
  finally:
    os.write(writer, b'\0')  # ends the thread
    thread.join()
    os.close(writer)
    os.close(reader)


@contextlib.contextmanager
def raised() -> Iterator[Requests]:
  """Within this context the main thread raises errors.Terminated at the first
  request, KeyboardInterrupt if it is SIGINT; and at another after GRACE. Gives
  the Requests, whose raise_first() raises what a callback has swallowed."""
  requests = Requests()

  def handle(number: int, frame: FrameType | None) -> None:
    if requests.add(number) != 'same':
      raise error_of(number)

  wakeup = signal.set_wakeup_fd(-1)
  try:
    with _handlers(handle, handle):
      yield requests
  finally:
    signal.set_wakeup_fd(wakeup)


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
  """Within this context a request ends the process at once. Before a run, and in
  commands that are none, there is nothing to save, and modules that are being
  imported cannot swallow it. The process is one command: ignore_at_end() has an
  effect."""
  global _is_command
  with received(end_at_once):
    _is_command = True
    try:
      yield
    finally:
      _is_command = False


def end_at_once(number: int) -> None:
  """Ends a process that has nothing to save."""
  is_interrupt = number == signal.SIGINT
  with contextlib.suppress(OSError):
    name = signal.Signals(number).name
    sentence = 'interrupted' if is_interrupt else f'terminated by {name}'
    print(f'r1jax: {sentence}', file=sys.stderr, flush=True)
  os._exit(errors.INTERRUPTED if is_interrupt else errors.TERMINATED)


def ignore_at_end() -> None:
  """Ignores requests from here to the exit of a process that is one command:
  its exit code is decided, and Python and jax take a while to shut down. Does
  nothing in other processes, such as notebooks."""
  if _is_command:
    for number in REQUESTS:
      signal.signal(number, signal.SIG_IGN)


def in_notebook() -> bool:
  """Whether this is a notebook or an interactive shell."""
  return 'ps1' in vars(sys)


def _receive(reader, receive):
  while True:
    for number in os.read(reader, 64):
      if not number:
        return
      if number in REQUESTS:
        receive(number)


@contextlib.contextmanager
def _handlers(interrupt, terminate):
  """Installs the handler of SIGINT, unless there is a notebook's or a user's
  own, and that of the others. Signals that are ignored remain so, also those
  that are ignored from within the context on."""
  replaced = {}
  for number in REQUESTS:
    before = signal.getsignal(number)
    is_default = before in (signal.default_int_handler, _ignore)
    if before == signal.SIG_IGN:
      continue
    if number == signal.SIGINT and (in_notebook() or not is_default):
      continue
    replaced[number] = before
    signal.signal(number, interrupt if number == signal.SIGINT else terminate)
  try:
    yield
  finally:
    for number, before in replaced.items():
      if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, before)


def _ignore(number, frame):
  """The thread receives the signal."""
