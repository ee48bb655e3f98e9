"""A tracker that appends to an event file of TensorBoard."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

from r1jax.training.trackers.tracked_run import RESULTS, TrackedRun

try:
  from tensorboardX import event_file_writer, record_writer, summary
  from tensorboardX.proto import event_pb2
except ImportError:  # Optional: the jsonl files have the same numbers.
  event_file_writer = None

MAX_CHARACTERS = 4000  # of a sample's prompt and of its response


class TensorBoard:
  """WORKDIR/tensorboard. What a killed process logged from run.first_step on is
  hidden."""

  def __init__(self, run: TrackedRun):
    self.folder = Path(run.workdir) / 'tensorboard'
    record_writer.directory_check(str(self.folder))
    path = str(self.folder / 'events')
    self.events = event_file_writer.EventsWriter(path)
    step, start = run.first_step, event_pb2.SessionLog.START
    session_log = event_pb2.SessionLog(status=start)
    self._write(step, file_version='brain.Event:2')
    self._write(step, session_log=session_log)
    values = {key: _plain(value) for key, value in run.changed.items()}
    for one in summary.hparams(values, dict.fromkeys(RESULTS, 0.0)):
      self._write(step, summary=one)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
      self._write(step, summary=summary.scalar(name, value))
    self._flush()

  def samples(self, step: int, samples: list[dict]) -> None:
    text = '\n\n---\n\n'.join(as_markdown(sample) for sample in samples)
    self._write(step, summary=summary.text('samples', text))
    self._flush()

  def close(self) -> None:
    self.events.close()

  def _write(self, step, **content):
    event = event_pb2.Event(step=step, **content)
    event.wall_time = time.time()
    self.events.write_event(event)

  def _flush(self):
    self.events.flush()
    if not self.folder.exists():  # An open file can still be written.
      raise FileNotFoundError('the folder was removed')


def is_installed() -> bool:
  return event_file_writer is not None


def as_markdown(sample: Mapping) -> str:
  """A line of samples.jsonl as Markdown, its texts as code."""
  heading = f'{sample["id"]}: reward {sample["reward"]:.4g}'
  texts = [_code(sample[name]) for name in ('prompt', 'response')]
  return '\n\n'.join([f'**{heading}**', *texts])


def _code(text):
  if not isinstance(text, str):  # of messages
    text = json.dumps(text, ensure_ascii=False)
  if len(text) > MAX_CHARACTERS:
    text = f'{text[:MAX_CHARACTERS]} … ({len(text)} characters)'
  return '\n'.join(f'    {line}' for line in text.splitlines())


def _plain(value):
  """A value as TensorBoard's table of hyperparameters takes it."""
  return value if isinstance(value, bool | int | float | str) else repr(value)
