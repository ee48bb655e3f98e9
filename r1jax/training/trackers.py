"""Writes metrics to TensorBoard, beside metrics.jsonl. A tracker never blocks
or stops the run: after a fault it is dropped with one line."""

import contextlib
import math
import pathlib
import queue
import threading
import time
from collections.abc import Mapping

from r1jax.distributed import watchdog

try:
  from tensorboardX import event_file_writer, record_writer, summary
  from tensorboardX.proto import event_pb2
except ImportError:  # Optional: the jsonl files have the same numbers.
  event_file_writer = None

MAX_WAITING = 1000  # lines that may wait to be written
CLOSE_SECONDS = 10.0  # that the end of a run waits for them, at most


class TensorBoard:
  """A thread that appends lines to an event file. Its queue is bounded."""

  def __init__(self, folder: pathlib.Path):
    self.folder, self.is_dropped = folder, False
    self.lines: queue.Queue = queue.Queue(MAX_WAITING)
    self.thread = threading.Thread(
      target=self._run, daemon=True, name='tensorboard'
    )
    self.thread.start()

  def write(self, line: Mapping[str, float | None]) -> None:
    """Queues a line of metrics.jsonl."""
    if not self.is_dropped:
      try:
        self.lines.put_nowait(line)
      except queue.Full:
        self._drop(f'{MAX_WAITING} lines wait to be written')

  def close(self) -> None:
    """Waits until all lines are written, but not long."""
    with contextlib.suppress(queue.Full):
      self.lines.put_nowait(None)
    self.thread.join(CLOSE_SECONDS)
    if self.thread.is_alive() and not self.is_dropped:
      self._drop(f'its last lines were not written in {CLOSE_SECONDS:g} s')

  def _run(self):
    events = None
    try:
      while (line := self.lines.get()) is not None and not self.is_dropped:
        if events is None:
          events = _open(self.folder, line['step'])
        _append(events, line)
        if not self.folder.exists():  # An open file can still be written.
          raise FileNotFoundError('the folder was removed')
      if events is not None:
        events.close()
    except Exception as error:  # of the disk, of the folder, of tensorboardX
      if not self.is_dropped:
        self._drop(f'{type(error).__name__}: {error}')

  def _drop(self, reason):
    self.is_dropped = True
    watchdog.print_error(
      f'cannot write to {self.folder} ({reason}): TensorBoard is dropped, '
      'metrics.jsonl goes on'
    )


def is_installed() -> bool:
  return event_file_writer is not None


def _open(folder, step):
  """An event file. What a killed run logged from `step` on is hidden."""
  record_writer.directory_check(str(folder))
  events = event_file_writer.EventsWriter(str(folder / 'events'))
  start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
  events.write_event(event_pb2.Event(step=step, file_version='brain.Event:2'))
  events.write_event(event_pb2.Event(step=step, session_log=start))
  return events


def _append(events, line):
  for name, value in line.items():
    if name != 'step' and value is not None and math.isfinite(value):
      event = event_pb2.Event(summary=summary.scalar(name, value))
      event.wall_time, event.step = time.time(), line['step']
      events.write_event(event)
  events.flush()
