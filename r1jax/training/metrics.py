"""What a run leaves to look at: metrics.jsonl, samples.jsonl, TensorBoard."""

import fnmatch
import json
import math
import os
import pathlib
import time

import jax
import numpy as np

from r1jax import files

try:
  import tensorboardX
except ImportError:  # The jsonl files are the record, TensorBoard one view.
  tensorboardX = None

# A resumed run repeats every other number bit for bit.
TIMINGS = ('seconds', 'tokens_per_s', 'wall', 'time/*')
FILES = ('metrics.jsonl', 'samples.jsonl')
PROGRESS = {
  'loss': 'loss {:.4f}',
  'reward': 'reward {:.3f}',
  'reward/accuracy': 'accuracy {:.3f}',
  'eval/pass1': 'pass@1 {:.3f}',
  'length': 'length {:.1f}',
  'truncated': 'truncated {:.1%}',
  'delta_logp': 'Δlogp {:.1e}',
  'tokens_per_s': '{:,.0f} tokens/s',
}

COMPILED = '/jax/core/compile/backend_compile_duration'

_programs = []
jax.monitoring.register_event_duration_secs_listener(
  lambda event, *_, **__: event == COMPILED and _programs.append(event)
)


def compiled_programs():
  """How many programs this process has compiled, or loaded from the cache: a
  number that goes on growing is a shape or a constant that retraces."""
  return len(_programs)


class Writer:
  """Appends to the files of a run on process 0, and is silent elsewhere."""

  def __init__(self, workdir, process=0):
    self.folder = pathlib.Path(workdir)
    self.silent = process != 0
    self.board = None
    self.purge_step = None

  def rewind(self, step):
    """Forgets the lines after the restored step; -1 forgets them all."""
    if self.silent:
      return
    assert self.board is None, 'rewind comes before the first write'
    self.purge_step = step + 1
    for path in (self.folder / name for name in FILES):
      if path.exists():
        kept = [line for line in files.read_jsonl(path) if line['step'] <= step]
        draft = path.with_suffix('.tmp')
        draft.write_text(_dump(kept))
        os.replace(draft, path)

  def write(self, metrics):
    """Adds the line of one step: {'step': n, name: number, ...}."""
    if self.silent:
      return
    line = {name: _number(value) for name, value in metrics.items()}
    self._append('metrics.jsonl', [line])
    if tensorboardX is None:
      return
    if self.board is None:
      folder = str(self.folder / 'tensorboard')
      self.board = tensorboardX.SummaryWriter(
        folder, purge_step=self.purge_step
      )
    for name, value in line.items():
      if name != 'step' and value is not None:
        self.board.add_scalar(name, value, line['step'])

  def samples(self, lines):
    """Adds {step, id, prompt, response, reward, rewards, finished, length}."""
    if not self.silent:
      self._append('samples.jsonl', lines)

  def close(self):
    if self.board:
      self.board.close()

  def _append(self, name, lines):
    self.folder.mkdir(parents=True, exist_ok=True)
    with open(self.folder / name, 'a') as file:
      file.write(_dump(lines))


def without_timings(line):
  """The numbers of a step that a resumed run repeats bit for bit."""

  def timed(name):
    return any(fnmatch.fnmatch(name, x) for x in TIMINGS)

  return {name: line[name] for name in line if not timed(name)}


def progress_line(step, steps, metrics, started, first=0):
  """One line for the terminal; `started` was time.time() after step `first`."""
  words = [f'step {step:{len(str(steps))}}/{steps}']
  words += [PROGRESS[x].format(metrics[x]) for x in PROGRESS if x in metrics]
  if step > first:
    left = (time.time() - started) / (step - first) * (steps - step)
    minutes, seconds = divmod(round(left), 60)
    words.append(f'{minutes // 60}:{minutes % 60:02}:{seconds:02} left')
  return '  '.join(words)


def _number(value):
  """A JSON number; what JSON has no number for (NaN, infinity) is null."""
  value = np.asarray(value).item()
  return value if math.isfinite(value) else None


def _dump(lines):
  return ''.join(json.dumps(line) + '\n' for line in lines)
