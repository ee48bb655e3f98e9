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
  """The exception that ends what a signal asks to end."""
  return KeyboardInterrupt() if number == signal.SIGINT else errors.Terminated()


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
  with contextlib.ExitStack() as stack:
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    stack.callback(thread.join)
    stack.callback(os.write, writer, b'\0')  # ends the thread
    stack.enter_context(_handlers(interrupt or _ignore, _ignore))
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    stack.callback(signal.set_wakeup_fd, wakeup)
    thread.start()
    yield


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
  """Within this context a request ends the process at once. Before a run there
  is nothing to save, and modules that are being imported cannot swallow it."""
  with received(_end):
    yield


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
  own, and that of the others. Signals that are ignored remain so."""
  with contextlib.ExitStack() as stack:
    for number in REQUESTS:
      before = signal.getsignal(number)
      is_default = before in (signal.default_int_handler, _ignore)
      if before == signal.SIG_IGN:
        continue
      if number == signal.SIGINT and (in_notebook() or not is_default):
        continue
      handler = interrupt if number == signal.SIGINT else terminate
      signal.signal(number, handler)
      stack.callback(signal.signal, number, before)
    yield


def _ignore(number, frame):
  """The thread receives the signal."""


def _end(number):
  code, sentence = errors.exit_status(error_of(number))
  with contextlib.suppress(OSError):
    print(f'r1jax: {sentence}', file=sys.stderr, flush=True)
  os._exit(code)
