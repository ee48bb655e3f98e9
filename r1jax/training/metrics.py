"""Writes metrics.jsonl, samples.jsonl and groups.jsonl, and tells trackers of
them."""

import json
import math
import os
import pathlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from r1jax import files
from r1jax.distributed import hosts
from r1jax.training.trackers import registry, system_metrics, worker
from r1jax.training.trackers.tracked_run import grouped

# tokens.jsonl is written by a report, see api/report_command.py.
FILES = 'metrics.jsonl', 'samples.jsonl', 'groups.jsonl', 'tokens.jsonl'
SAMPLES_SECONDS = 60.0  # at least, between two steps whose samples trackers get

# The seconds of each program that this process compiled, or loaded from the
# cache. If the list keeps growing, some function is traced at every step.
compilations: list[float] = []


def _listen(event, duration_secs, **kwargs):
  if event == '/jax/core/compile/backend_compile_duration':
    compilations.append(duration_secs)


jax.monitoring.register_event_duration_secs_listener(_listen)


class Writer:
  """Appends to the files of a run on host 0, with the trackers of its config
  (None: without trackers). On other hosts it does nothing."""

  def __init__(self, workdir: str | os.PathLike[str], config: Any = None):
    self.folder, self.config = pathlib.Path(workdir), config
    self._silent = hosts.index() > 0
    self._first_step = 0
    self._workers: list[worker.Worker] | None = None
    self._samples_at = -SAMPLES_SECONDS

  def rewind(self, step: int) -> None:
    """Removes the lines after the restored step (-1: all), before any write."""
    self._first_step = step + 1
    if self._silent:
      return
    for path in (self.folder / name for name in FILES):
      if path.exists():
        kept = [line for line in files.read_jsonl(path) if line['step'] <= step]
        files.write_text(path, _dump(kept))

  def write(self, metrics: Mapping[str, Any]) -> None:
    """Appends the metrics of one step: {'step': n, name: number, ...}. Numbers
    that are not finite become null."""
    if self._silent:
      return
    line = {}
    for name, value in metrics.items():
      number = np.asarray(value).item()
      line[name] = number if math.isfinite(number) else None
    self._append('metrics.jsonl', [line])
    workers = self._open()
    if workers:
      numbers = grouped(line) | system_metrics.read()
      for one in workers:
        one.call('write', line['step'], numbers)

  def samples(self, lines: Iterable[dict]) -> None:
    """Appends a line for each sample (see rl/log.py)."""
    lines = list(lines)
    if self._silent or not lines:
      return
    self._append('samples.jsonl', lines)
    now = time.monotonic()
    if now - self._samples_at >= SAMPLES_SECONDS:
      self._samples_at = now
      for one in self._open():
        one.call('samples', lines[-1]['step'], lines)

  def groups(self, lines: Iterable[dict]) -> None:
    """Appends a line for each logged group (see rl/log.py)."""
    if not self._silent:
      self._append('groups.jsonl', lines)

  def close(self) -> None:
    """Ends the trackers, within worker.CLOSE_SECONDS."""
    worker.close_all(self._workers or [])

  def _open(self):
    """The trackers, opened at the first call."""
    if self._workers is None:
      self._workers = []
      if self.config is not None:
        self._workers = registry.open_all(
          self.config.trackers, self.folder, self.config, self._first_step
        )
    return self._workers

  def _append(self, name, lines):
    self.folder.mkdir(parents=True, exist_ok=True)
    path = self.folder / name
    with files.named(path), open(path, 'a') as file:
      file.write(_dump(lines))


def _dump(lines):
  return ''.join(json.dumps(line) + '\n' for line in lines)
