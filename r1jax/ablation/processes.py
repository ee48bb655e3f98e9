"""The runs of a sweep as processes: some at a time, with a log file each."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from r1jax import errors
from r1jax.ablation.grid import PlannedRun
from r1jax.ablation.run_files import is_finished
from r1jax.distributed import signals, watchdog
from r1jax.training import live_display, progress

CONFIG, LOG = 'config.py', 'log.txt'  # in the folder of a run
GPU_MEMORY = 0.9  # the share of it that the runs at a time have together
POLL_SECONDS, REDRAW_SECONDS = 0.1, 1.0


def run_all(
  runs: Sequence[PlannedRun], workdir: Path, stage: str, jobs: int, lock: int
) -> dict[str, int]:
  """Runs all that have no result yet, `jobs` at a time. Returns the exit codes
  of those that failed, by name. SIGTERM and Ctrl-C end the runs, which write
  their checkpoints first."""
  names = [run.name for run in runs]
  waiting = [x for x in names if not is_finished(workdir / x)]
  active: dict[str, subprocess.Popen] = {}
  failed: dict[str, int] = {}
  display = Display(workdir, len(runs), len(waiting))
  with contextlib.ExitStack() as stack:
    stack.callback(display.close)
    requests = stack.enter_context(signals.raised())
    stack.callback(end, active)
    while waiting or active:
      while waiting and len(active) < jobs:
        name = waiting.pop(0)
        active[name] = start(workdir / name, stage, jobs, lock)
      requests.raise_first()
      display.show(list(active), len(waiting))
      time.sleep(POLL_SECONDS)
      for name, process in list(active.items()):
        code = process.poll()
        if code is not None:
          del active[name]
          if code:
            failed[name] = code
    display.show([], 0)
  return failed


def command(folder: Path, stage: str) -> list[str]:
  """The command of the run of a folder."""
  options = ['--config', str(folder / CONFIG), '--workdir', str(folder)]
  return [sys.executable, '-m', 'r1jax', stage, *options]


def start(
  folder: Path, stage: str, jobs: int, lock: int
) -> subprocess.Popen[bytes]:
  """Starts the run of a folder, in a process group that Ctrl-C does not reach.
  It inherits the file descriptor `lock`."""
  environment = dict(os.environ)
  if jobs > 1:  # jax would take most of a GPU's memory for each process.
    share = f'{GPU_MEMORY / jobs:.3f}'
    environment.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', share)
  with open(folder / LOG, 'ab') as log:
    return subprocess.Popen(
      command(folder, stage),
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      env=environment,
      pass_fds=[lock],
      process_group=0,
    )


def end(active: dict[str, subprocess.Popen]) -> None:
  """Sends SIGTERM to the processes and waits for them. Kills them if this is
  interrupted too, after the grace period of signals.py."""
  if active:
    watchdog.print_error(
      f'waits for the checkpoints of {", ".join(active)}; a second signal '
      'after the grace period kills them'
    )
  for process in active.values():
    process.terminate()
  try:
    for process in active.values():
      process.wait()
  except BaseException:
    for process in active.values():
      process.kill()
    raise


class Display:
  """A line with the number of runs that are done, the time left and the active
  runs. A live display adds the last lines of their logs; otherwise it is
  printed when other runs become active."""

  def __init__(self, workdir: Path, total: int, waiting: int):
    self.workdir, self.total = workdir, total
    self.first_left = self.left = waiting  # runs that are not done
    self.started = self.ended_at = time.monotonic()
    self.drawn_at = 0.0
    self.printed: list[str] = []
    self.display = live_display.find(None)

  def show(self, active: list[str], waiting: int) -> None:
    """Shows the state, at most once in REDRAW_SECONDS and at the end."""
    left, now, seconds_left = waiting + len(active), time.monotonic(), None
    if left < self.left:
      self.left, self.ended_at = left, now
    ended = self.first_left - left
    if ended:
      seconds_a_run = (self.ended_at - self.started) / ended
      seconds_left = max(0.0, left * seconds_a_run - (now - self.ended_at))
    done = self.total - left
    parts = progress.progress_parts(done, self.total, {}, seconds_left, 'run')
    if not self.display:
      if active and active != self.printed:
        line = live_display.SEPARATOR.join(parts)
        print(f'{line}  now {", ".join(active)}', flush=True)
        self.printed = active
    elif now - self.drawn_at >= REDRAW_SECONDS or not left:
      for name in active:
        log = last_lines(self.workdir / name / LOG, 1)
        line = f'{name}: {"".join(log)}'
        parts += line.split(live_display.SEPARATOR)
      self.display.draw(parts, done / self.total)
      self.drawn_at = now

  def close(self) -> None:
    if self.display:
      self.display.close()


def last_lines(path: Path, count: int) -> list[str]:
  """The last lines of a log that are not empty."""
  if not path.exists():
    return []
  with open(path, 'rb') as file:
    file.seek(max(0, path.stat().st_size - 10_000))
    text = file.read().decode(errors='replace')
  lines = [line for line in text.splitlines() if line.strip()][-count:]
  return [errors.printable(line) for line in lines]
