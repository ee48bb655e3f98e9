"""Runs a config with each setting of a grid and several seeds, and compares the
runs."""

import collections
import contextlib
import dataclasses
import fcntl
import json
import pprint
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from r1jax import config as configs
from r1jax import errors, files
from r1jax.ablation import compare, in_process, processes, run_files
from r1jax.ablation import grid as grids
from r1jax.ablation.comparison import Comparison
from r1jax.ablation.grid import Grid
from r1jax.distributed import watchdog
from r1jax.training import config_changes

TAIL = 10  # lines of the log of a failed run that are printed
CONFIG_FILE = '''\
"""The config of this run, which r1jax sweep has written."""

from r1jax import config


def get_config():
  return config.Settings(VALUES)


VALUES = {}
'''


def sweep(
  config: Any,
  workdir: str | Path,
  grid: Grid,
  seeds: int = 3,
  jobs: int = 1,
  stage: str = 'rl',
) -> Comparison:
  """Runs `config` with each combination of the values by key in `grid`, and with
  the seeds config.seed, config.seed + 1 and so on. Compares the runs and writes
  workdir/sweep.html.

  Every run is a process of its own, `jobs` at a time, with its files in
  workdir/SETTING/seed-N; with functions given in Python, all runs are in this
  process. The same call continues a sweep that was ended; it may have more
  values or seeds. A run that fails ends no other one: it is printed at the end,
  and is one of the result's `left_out`.
  """
  workdir = files.local_folder(workdir, 'the directory of the sweep')
  grid, config = grids.check(grid), configs.as_settings(config)
  if stage not in compare.STAGES:
    raise errors.UserError(
      f'there is no sweep of the stage {stage!r}: it must be one of '
      f'{", ".join(compare.STAGES)}'
    )
  for name, number in dict(seeds=seeds, jobs=jobs).items():
    if not isinstance(number, int | np.integer) or number < 1:
      raise errors.UserError(
        f'the number of {name} is {number!r}: give a number of at least 1'
      )
  runs = grids.plan(compare.STAGES[stage].Config, config, grid, seeds)
  with locked(workdir) as lock:
    claim(workdir, stage, config, grid)
    if in_process.is_needed(compare.STAGES[stage].Config, runs):
      failed = in_process.run_all(runs, workdir, compare.STAGES[stage])
    else:
      for run in runs:
        _write_config(workdir / run.name, run)
      failed = processes.run_all(runs, workdir, stage, jobs, lock)
    _print_failures(failed, workdir)
    folders = [workdir / run.name for run in runs]
    comparison = compare.compare(folders, by=list(grid))
    comparison.save(workdir / 'sweep.html')
  print(workdir / 'sweep.html')
  return comparison


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[int]:
  """The lock of a sweep directory, a file descriptor. The runs inherit it, so
  that it is held until the last of them ends, even if this process is killed.
  """
  with errors.explained(f'cannot write to the directory {workdir}', OSError):
    workdir.mkdir(parents=True, exist_ok=True)
    file = open(workdir / 'sweep.lock', 'w')
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise errors.UserError(
        f'a sweep of {workdir} is still running, or runs of one that was '
        'killed: wait for them, or end them and start again'
      ) from None
    yield file.fileno()


def claim(
  workdir: Path, stage: str, config: ConfigDict, grid: dict[str, list]
) -> None:
  """Writes sweep.json. Raises UserError if the directory belongs to a sweep of
  another stage, other keys, or a config with other values of other keys."""
  path, cls = workdir / 'sweep.json', compare.STAGES[stage].Config
  if path.exists():
    with errors.explained(f'{path} is not what a sweep has written'):
      old = json.loads(path.read_text())
      old_stage, old_keys, tree = old['stage'], old['keys'], old['config']
    if old_stage != stage or set(old_keys) != set(grid):
      raise errors.UserError(
        f'{workdir} belongs to a sweep of {old_stage} over '
        f'{", ".join(old_keys) or "seeds alone"}: use another --workdir'
      )
    lines = _differences(cls, tree, config, grid)
    if lines:
      raise errors.UserError(
        f'the sweep directory {workdir} belongs to another config: '
        f'{"; ".join(lines)}; use another --workdir or set these keys back'
      )
  tree = dataclasses.asdict(configs.build(cls, config))
  text = json.dumps(dict(stage=stage, keys=list(grid), config=tree), indent=2)
  files.write_text(path, text + '\n')


def _differences(cls, tree, config, grid):
  """Where the recorded config and this one differ in keys that influence the
  runs, the keys of the grid left out."""
  first = {key: values[0] for key, values in grid.items()}
  recorded = configs.settings(config_changes.recorded_config(cls, tree))
  old, new = (
    configs.build(cls, configs.with_values(x, first))
    for x in (recorded, config)
  )
  return [
    f'{change.key}: {change.old!r} -> {change.new!r}'
    for change in config_changes.changes(old, new)
    if not change.is_free
  ]


def _print_failures(failed, workdir):
  """Prints the names of the runs that failed and the ends of their logs, once
  for those whose last lines are equal."""
  by_last_line = collections.defaultdict(list)
  for name in failed:
    last = processes.last_lines(workdir / name / processes.LOG, 1)
    by_last_line[''.join(last)].append(name)
  for names in by_last_line.values():
    path = workdir / names[0] / processes.LOG
    codes = [f'{name} (exit code {failed[name]})' for name in names]
    watchdog.print_error(f'failed: {", ".join(codes)}. The end of {path}:')
    lines = processes.last_lines(path, TAIL)
    print('\n'.join(lines), file=sys.stderr, flush=True)


def _write_config(folder, run):
  if not run_files.is_finished(folder):
    values = pprint.pformat(run.config, sort_dicts=False)
    files.write_text(folder / processes.CONFIG, CONFIG_FILE.format(values))
