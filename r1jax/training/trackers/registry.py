"""config.trackers: names of trackers with settings, as in wandb?project=zero."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1jax import config as configs
from r1jax import errors, experiment_files, user_code
from r1jax.data import settings as settings_of_names
from r1jax.distributed import watchdog
from r1jax.training import config_changes
from r1jax.training.trackers import tensorboard
from r1jax.training.trackers.own_process import OwnProcess
from r1jax.training.trackers.tracked_run import TrackedRun
from r1jax.training.trackers.worker import Worker

DEFAULT = ('tensorboard',)
HELP = 'tensorboard, wandb?project=zero, trackio, or your FILE.py:NAME'
# The settings that a name can have.
SETTINGS = dict(
  tensorboard=(),
  wandb=('project', 'entity', 'name', 'group', 'mode'),
  trackio=('project', 'name', 'group', 'space_id'),
)


def check(names: Sequence[str]) -> None:
  """Raises UserError for a name that is no tracker, or a setting that the
  tracker does not have."""
  labels = [label_of(name) for name in names]
  for text, label in zip(names, labels):
    name, settings = parse(text)
    if labels.count(label) > 1:
      raise errors.UserError(f'config.trackers has {label} twice')
    if name not in SETTINGS:
      _check_own(name)
      continue
    for key in settings:
      if key not in SETTINGS[name]:
        known = ', '.join(SETTINGS[name]) or 'none'
        raise errors.UserError(
          f'config.trackers: {name} has no setting {key}; it has {known}'
        )


def _check_own(name):
  """Raises UserError unless a name has the form of a user's tracker, in a file
  that exists."""
  if not user_code.is_name(name):
    user_code.lookup(SETTINGS, name, 'config.trackers')  # raises
  place = name.rpartition(':')[0]
  if place.endswith('.py') and not experiment_files.find(place).is_file():
    raise errors.UserError(
      f'config.trackers: there is no file {place} (in {Path.cwd()})'
    )


def parse(text: str) -> tuple[str, dict[str, Any]]:
  """(name, settings) of NAME?key=value&key=value."""
  name, _, query = text.partition('?')
  return name, settings_of_names.parse(query, text)


def label_of(text: str) -> str:
  """The name of a tracker in messages and files."""
  return user_code.short_name(text.partition('?')[0])


def open_all(
  names: Sequence[str], workdir: Path, config: Any, first_step: int
) -> list[Worker]:
  """A worker for each tracker that is installed; says which are not. `config` is
  that of a stage."""
  nested = config_changes.plain(dataclasses.asdict(config))
  default = config_changes.plain(dataclasses.asdict(type(config)()))
  pairs = configs.changes(default, nested)
  run = TrackedRun(
    name='/'.join(workdir.resolve().parts[-2:]),
    id='',
    workdir=str(workdir.resolve()),
    first_step=first_step,
    config=nested,
    changed={key: value for key, (_, value) in pairs.items()},
  )
  workers = []
  for text in names:
    name, settings = parse(text)
    if name == 'tensorboard':
      if tensorboard.is_installed():
        workers.append(_tensorboard(run))
    elif name in SETTINGS and not importlib.util.find_spec(name):
      watchdog.print_error(
        f'the tracker {name} is not installed (pip install '
        "'r1jax[trackers]'); the run goes on without it"
      )
    else:
      workers.append(_in_own_process(name, settings, run))
  return workers


def _tensorboard(run):
  return Worker('tensorboard', lambda: tensorboard.TensorBoard(run), _nothing)


def _in_own_process(name, settings, run):
  label = label_of(name)
  process = OwnProcess(label)
  return Worker(label, lambda: process.start(name, settings, run), process.stop)


def _nothing():
  """A thread cannot be stopped."""
