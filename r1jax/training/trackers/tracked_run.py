"""What a tracker is told of a run, and the groups in which it shows metrics."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol

GROUPS = 'train', 'eval', 'time', 'system'
TIMES = 'seconds', 'tokens_per_s'  # metrics of the group time
# What a hyperparameter table shows of a run, where the run has it.
RESULTS = (
  'eval/pass1',
  'eval/accuracy',
  'eval/loss',
  'train/reward',
  'train/loss',
)


@dataclasses.dataclass(frozen=True)
class TrackedRun:
  """The run of a tracker; all of it is JSON."""

  name: str  # the work directory and the folder that it is in
  id: str  # the same in every process that continues the run
  workdir: str
  first_step: int  # of this process
  config: dict[str, Any]  # all keys, nested
  changed: dict[str, Any]  # the dotted keys that are not the defaults


class Tracker(Protocol):
  """Your own tracker: what FILE.py:NAME returns when called with a TrackedRun.
  Calls come one at a time."""

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Takes the metrics of a step, named GROUP/..., see GROUPS."""

  def samples(self, step: int, samples: list[dict]) -> None:
    """Takes some lines of samples.jsonl."""

  def close(self) -> None:
    """Ends the run in this process."""


def grouped(line: Mapping[str, float | None]) -> dict[str, float]:
  """The finite metrics of a line of metrics.jsonl with their groups in front."""
  found = {}
  for name, value in line.items():
    if name == 'step' or value is None or not math.isfinite(value):
      continue
    group = name.partition('/')[0]
    if name in TIMES:
      name = f'time/{name}'
    elif '/' not in name or group not in GROUPS:
      name = f'train/{name}'
    found[name] = value
  return found
