"""Writes metrics.jsonl, samples.jsonl and TensorBoard."""

import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from r1jax import files
from r1jax.distributed import hosts
from r1jax.training import trackers

FILES = ('metrics.jsonl', 'samples.jsonl')

# The seconds of each program that this process compiled, or loaded from the
# cache. If the list keeps growing, some function is traced at every step.
compilations: list[float] = []


def _listen(event, duration_secs, **kwargs):
  if event == '/jax/core/compile/backend_compile_duration':
    compilations.append(duration_secs)


jax.monitoring.register_event_duration_secs_listener(_listen)


class Writer:
  """Appends to the files of a run on host 0. On other hosts it does nothing."""

  def __init__(self, workdir: str | os.PathLike[str]):
    self.folder = pathlib.Path(workdir)
    self._silent = hosts.index() > 0
    self._board: trackers.TensorBoard | None = None

  def rewind(self, step: int) -> None:
    """Removes the lines after the restored step (-1: all), before any write."""
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
    if self._board is None and trackers.is_installed():
      self._board = trackers.TensorBoard(self.folder / 'tensorboard')
    if self._board:
      self._board.write(line)

  def samples(self, lines: Iterable[dict]) -> None:
    """Appends a line for each sample (see rl/log.py)."""
    if not self._silent:
      self._append('samples.jsonl', lines)

  def close(self) -> None:
    if self._board:
      self._board.close()

  def _append(self, name, lines):
    self.folder.mkdir(parents=True, exist_ok=True)
    path = self.folder / name
    with files.named(path), open(path, 'a') as file:
      file.write(_dump(lines))


def _dump(lines):
  return ''.join(json.dumps(line) + '\n' for line in lines)
