"""A thread that hands lines to one tracker. A tracker neither blocks nor stops
a run: after a fault, or if it is too slow, it is dropped with one line."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from r1jax.distributed import watchdog
from r1jax.training.trackers.tracked_run import Tracker

MAX_TEXT = 500  # characters that are printed of what a tracker says
MAX_WAITING = 1000  # calls that may wait for a tracker
CLOSE_SECONDS = 30.0  # that the end of a run waits for all trackers, at most


class Worker:
  """Calls the tracker that `make` returns, in the order of the calls here. Its
  queue is bounded. `stop` ends a tracker that does not return."""

  def __init__(
    self, name: str, make: Callable[[], Tracker], stop: Callable[[], None]
  ):
    self.name, self.make, self.stop = name, make, stop
    self.is_dropped = False
    self.calls: queue.Queue = queue.Queue(MAX_WAITING)
    self.thread = threading.Thread(
      target=self._run, daemon=True, name=f'tracker {name}'
    )
    self.thread.start()

  def call(self, method: str, *arguments: Any) -> None:
    """Queues a call of a method of the tracker."""
    if self.is_dropped:
      return
    try:
      self.calls.put_nowait((method, *arguments))
    except queue.Full:
      self._drop(f'{MAX_WAITING} lines wait to be written')

  def begin_close(self) -> None:
    """Queues the end of the tracker."""
    with contextlib.suppress(queue.Full):
      self.calls.put_nowait(('close',))

  def wait_closed(self, end: float) -> None:
    """Waits for the last calls, until `end` of time.monotonic() at most."""
    if self.is_dropped:
      return
    self.thread.join(max(0.0, end - time.monotonic()))
    if self.thread.is_alive() and not self.is_dropped:
      self._drop(
        f'its last lines were not written {CLOSE_SECONDS:g} s after the run'
      )

  def _run(self):
    try:
      tracker, method = self.make(), ''
      while method != 'close' and not self.is_dropped:
        method, *arguments = self.calls.get()
        _do(tracker, method, arguments)
    except BaseException as error:  # SystemExit too
      if not self.is_dropped:
        text = ' '.join(str(error).split())
        if len(text) > MAX_TEXT:  # Its end names the log.
          text = f'{text[: MAX_TEXT // 2]} … {text[-MAX_TEXT // 2 :]}'
        self._drop(f'{type(error).__name__}: {text}')

  def _drop(self, reason):
    self.is_dropped = True
    watchdog.print_error(
      f'the tracker {self.name} is dropped ({reason}); metrics.jsonl goes on'
    )
    self.stop()


def _do(tracker, method, arguments):
  if method == 'write':
    tracker.write(*arguments)
  elif method == 'samples':
    tracker.samples(*arguments)
  else:
    assert method == 'close'
    tracker.close()


def close_all(workers: list[Worker]) -> None:
  """Closes trackers side by side, within CLOSE_SECONDS."""
  end = time.monotonic() + CLOSE_SECONDS
  for worker in workers:
    worker.begin_close()
  for worker in workers:
    worker.wait_closed(end)
