"""A tracker in a process of its own, which can fail, hang or print as it likes.
See child.py for the other side."""

import dataclasses
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1jax import files
from r1jax.training.trackers.tracked_run import TrackedRun

# What the child must not do as the run does: use its devices, join its hosts.
ENVIRONMENT = dict(
  JAX_PLATFORMS='cpu', WANDB_SILENT='true', WANDB_CONSOLE='off'
)
LEFT_OUT = 'R1JAX_HOSTS', 'R1JAX_HOST', 'R1JAX_COORDINATOR'


class TrackerError(Exception):
  """What went wrong in the process of a tracker, in one line."""

  def __str__(self) -> str:
    return ' '.join(super().__str__().split())[:300]


class OwnProcess:
  """The tracker `name` with its settings, in a child process. Its output goes to
  WORKDIR/trackers/LABEL.log. WORKDIR/trackers/LABEL.json has what was sent, so
  that a run which repeats steps after a kill sends none twice."""

  def __init__(self, label: str):
    self.label = label
    self.process: subprocess.Popen | None = None
    self.is_stopped = False

  def start(
    self, name: str, settings: Mapping[str, Any], run: TrackedRun
  ) -> 'OwnProcess':
    """Starts the process and waits until it has opened the run."""
    folder = Path(run.workdir) / 'trackers'
    folder.mkdir(parents=True, exist_ok=True)
    self.log = folder / f'{self.label}.log'
    self.sent = Sent.read(folder / f'{self.label}.json')
    run = dataclasses.replace(run, id=self.sent.id)
    environment = {k: x for k, x in os.environ.items() if k not in LEFT_OUT}
    path = os.pathsep.join(x or os.getcwd() for x in sys.path)
    environment |= ENVIRONMENT | dict(PYTHONPATH=path)
    with open(self.log, 'ab') as log:
      self.process = subprocess.Popen(
        [sys.executable, '-m', 'r1jax.training.trackers.child'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment,
        start_new_session=True,  # Ctrl-C is for the run.
      )
    if self.is_stopped:
      self.stop()
    self._ask(name=name, settings=dict(settings), run=dataclasses.asdict(run))
    return self

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    new = self.sent.new(step, metrics)
    if new:
      self.sent = self.sent.after(step, new)  # before, so that none is twice
      self.sent.write()
      self._ask(method='write', step=step, value=new)

  def samples(self, step: int, samples: list[dict]) -> None:
    if self.sent.new(step, dict(samples=0)):
      self.sent = self.sent.after(step, ['samples'])
      self.sent.write()
      self._ask(method='samples', step=step, value=samples)

  def close(self) -> None:
    self._ask(method='close')
    assert self.process is not None
    self.process.wait()

  def stop(self) -> None:
    """Kills the process and those that it has started."""
    self.is_stopped = True
    if self.process and self.process.poll() is None:
      os.killpg(self.process.pid, signal.SIGKILL)

  def _ask(self, **message):
    """Sends a line and waits for the answer. Raises TrackerError."""
    process = self.process
    assert process and process.stdin and process.stdout
    try:
      process.stdin.write(json.dumps(message).encode() + b'\n')
      process.stdin.flush()
      answer = process.stdout.readline()
    except BrokenPipeError:
      answer = b''
    if not answer:
      code = process.wait()
      raise TrackerError(f'its process ended with code {code}, see {self.log}')
    problem = json.loads(answer)['error']
    if problem:
      raise TrackerError(f'{problem}; see {self.log}')


@dataclasses.dataclass(frozen=True)
class Sent:
  """The id of a run for a tracker, the last step that the tracker was sent, and
  the names that it was sent of it, in a file."""

  path: Path
  id: str
  step: int
  names: tuple[str, ...]

  @staticmethod
  def read(path: Path) -> 'Sent':
    """What a file holds; of a new run, a new id."""
    if not path.exists():
      sent = Sent(path=path, id=secrets.token_hex(8), step=-1, names=())
      sent.write()
      return sent
    content = json.loads(path.read_text())
    names = tuple(content.pop('names'))
    return Sent(path=path, names=names, **content)

  def new(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of the metrics that were not sent yet."""
    if step > self.step:
      return dict(metrics)
    is_last = step == self.step
    return {k: x for k, x in metrics.items() if is_last and k not in self.names}

  def after(self, step: int, names: Any) -> 'Sent':
    before = self.names if step == self.step else ()
    return dataclasses.replace(self, step=step, names=(*before, *names))

  def write(self) -> None:
    content = json.dumps(dict(id=self.id, step=self.step, names=self.names))
    files.write_text(self.path, content + '\n')
