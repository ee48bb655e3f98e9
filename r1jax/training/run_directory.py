"""Work directories: each belongs to one config, which may change from a
checkpoint on, and is finished when it contains the stage's result."""

import contextlib
import dataclasses
import datetime
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from ml_collections import ConfigDict

from r1jax import config as configs
from r1jax import errors, files, user_code
from r1jax.data import record_files, run_date
from r1jax.distributed import agreement, hosts
from r1jax.training import (
  config_changes,
  inputs,
  run_checks,
  run_record,
  starts,
  work_lock,
)
from r1jax.training.config_changes import Change, Changed
from r1jax.training.inputs import Input
from r1jax.training.run_record import RunRecord

Config = TypeVar('Config')  # the class of a stage's config

# Why no key can change in a stage that writes its samples in chunks.
ONE_CONFIG = 'all results of this stage belong to one config'


@dataclasses.dataclass(frozen=True)
class RunDirectory(Generic[Config]):
  """A work directory, and the config of a command in it."""

  path: Path
  config: Config  # in force
  change: Change
  changes: list[Changed]  # from config.json
  record: RunRecord | None  # from config.json
  progress: int  # the step of the newest checkpoint, or the number of chunks
  date: str  # of the run's beginning, see data/run_date.py
  fixed: str  # why no key of the stage can change
  defaults_kept: dict[str, Any]  # see config_changes.keep_defaults


@contextlib.contextmanager
def occupied(workdir: Path) -> Iterator[None]:
  """Within this context a stage runs in the work directory, and no other run
  does. Removes what killed runs have left of files that they wrote. Raises
  UserError if another run is there. A collective at its beginning."""
  with work_lock.locked(workdir):
    hosts.run_once(lambda: _remove_interrupted(workdir))
    try:
      yield
    finally:
      run_date.set_run('')


def _remove_interrupted(workdir):
  for folder in (workdir, workdir / 'chunks', workdir / 'trackers'):
    files.remove_interrupted(folder)


def open_directory(
  workdir: Path,
  cls: type[Config],
  settings: ConfigDict,
  change: Change,
  fixed: str = '',
) -> RunDirectory[Config]:
  """The work directory with the config in force: the settings, with the values
  of `change` and those of earlier changes. `fixed` says why no key of the stage
  can change. From here on chat templates see the date of the run's beginning.
  Raises UserError if the directory belongs to another config. A collective."""
  found, progress, date = hosts.run_once(lambda: _read(workdir))
  record = RunRecord(**found) if found else None
  run_date.set_run(date)
  values = {k.removeprefix('config.'): x for k, x in change.values.items()}
  if values and fixed:
    raise errors.UserError(f'--change is not possible: {fixed}')
  if values and not record:
    raise errors.UserError(
      f'there is no run in {workdir} that --change could continue: set '
      f'{", ".join(values)} in the config'
    )
  config = configs.build(cls, settings)
  changes, defaults_kept = [], {}
  if record:
    problem = f'{workdir}/config.json is of another stage or version of r1jax'
    with errors.explained(problem, errors.UserError):
      recorded = config_changes.recorded_config(cls, record.config)
      new_keys = config_changes.missing_keys(cls, record.config)
    defaults_kept = record.defaults_kept | config_changes.keep_defaults(
      recorded, settings, new_keys
    )
    config = config_changes.in_force(
      settings, recorded, record.changes, values, defaults_kept
    )
    changes = config_changes.changes(recorded, config, values)
    refusal = config_changes.refusal(changes, values, fixed)
    if refusal:
      raise errors.UserError(
        f'the work directory {workdir} belongs to another config: {refusal}'
      )
  code_names = configs.code_names(config)
  _check_names(code_names)
  user_code.refresh(code_names)
  return RunDirectory(
    path=workdir,
    config=config,
    change=change,
    changes=changes,
    record=record,
    progress=progress,
    date=date,
    fixed=fixed,
    defaults_kept=defaults_kept,
  )


def claim(
  directory: RunDirectory[Config],
  result: str,
  records: Sequence[Any],
  steps: int = 0,
  scored: Sequence[Mapping[str, Any]] = (),
  **facts: Any,
) -> RunDirectory[Config] | None:
  """Assigns the work directory to the config. Returns None if the run is
  finished: `result`, written last, exists, and a training stage has no `steps`
  left. Otherwise record_changes must follow. Raises UserError if inputs,
  records or user code have changed, or if the hosts differ in config, inputs,
  records, code, facts or directory. The scorers of the records `scored`, those
  whose accuracy the stage computes, are user code too. A collective."""
  path, config, change = directory.path, directory.config, directory.change
  code = user_code.digests(configs.code_names(config))
  code |= record_files.scorer_code(scored)
  found, records_digest = (
    inputs.read(config),
    agreement.digest_of_records(records),
  )
  for key, one in found.items():
    facts[f'the content of config.{key}'] = [one.files, one.revision]
  agreement.check_agreement(
    path,
    config=config,
    change=[sorted(change.values), change.accept_code, change.accept_inputs],
    records=records_digest,
    user_code=code,
    **facts,
  )
  record = _new_record(directory, code, records_digest, found)
  old = directory.record
  is_finished = hosts.run_once((path / result).exists)
  if not old:
    _check_new(directory, result if is_finished else '')
    hosts.run_once(lambda: run_record.write(path, record))
  other_changes = []
  if old and (
    directory.progress or is_finished
  ):  # else nothing depends on them
    began = run_checks.Began(path, old, directory.fixed, change)
    other_changes += run_checks.input_changes(began, found)
    other_changes += run_checks.records_changes(began, records_digest)
    other_changes += run_checks.code_changes(began, code)
  if steps and steps < directory.progress:
    raise errors.UserError(
      f'config.steps would be {steps}, but {path} has a checkpoint of step '
      f'{directory.progress}: the steps of a run cannot be less than it has '
      'done'
    )
  if is_finished and not _is_extended(directory, steps):
    print(f'{path} is finished: the result is {path / result}')
    return None
  if old:
    if old.inputs is None:
      print('the files that this run reads are part of it from now on')
    record = dataclasses.replace(record, changes=old.changes)
  return dataclasses.replace(
    directory, record=record, changes=[*directory.changes, *other_changes]
  )


def record_changes(directory: RunDirectory, step: int) -> None:
  """Writes the changes to config.json, as valid from `step` on, with which the
  run continues, and the software of this start to starts.jsonl. Renames the
  model of a finished run that is extended. To be called before the first new
  step; a collective."""
  hosts.run_once(lambda: _record_changes(directory, step))
  starts.record(directory.path, step)


def saved(path: Path) -> tuple[int, int]:
  """(the step of the newest checkpoint or 0, the number of chunks) of a work
  directory."""
  names = [folder.name for folder in (path / 'checkpoints').glob('*')]
  steps = [int(name) for name in names if name.isdigit()]
  return max(steps, default=0), len(list((path / 'chunks').glob('*.jsonl')))


def _check_new(directory, result):
  """Raises UserError if a work directory without a config.json holds a result,
  checkpoints or chunks: they are of a config that nobody knows."""
  path, found = directory.path, [result] if result else []
  if directory.progress:
    found.append('checkpoints or chunks')
  if found:
    raise errors.UserError(
      f'{path} has no config.json, but {" and ".join(found)} of another run: '
      'put its config.json back, or use another --workdir'
    )


def _check_names(code_names):
  """Raises UserError if two objects given in Python have one name, under which
  config.json would hold only one of them."""
  names = [user_code.without_digest(name) for name in code_names]
  for name in names:
    if names.count(name) > 1:
      raise errors.UserError(
        f'the config has two different objects called '
        f'{user_code.short_name(name)}: give them different names'
      )


def _record_changes(directory, step):
  path, entries = directory.path, []
  for entry in directory.record.changes:
    # If newer checkpoints were damaged, earlier changes are valid from here on.
    entries.append(entry | dict(step=min(step, entry['step'])))
  for change in directory.changes:
    key, old, new = change.key, change.old, change.new
    print(f'changed from step {step} on: {key}: {old!r} -> {new!r}')
    entry = dict(step=step, key=key, old=old, new=new)
    # Without --change the next command may have the old value again.
    entries.append(entry | dict(is_free=True) if change.is_free else entry)
  model = path / 'model'
  if model.exists():
    renamed = path / f'model-step-{directory.progress}'
    # An equal one is there if an earlier command was killed at this point.
    shutil.rmtree(renamed, ignore_errors=True)
    model.rename(renamed)
    print(f'the model of step {directory.progress} is now {renamed}')
  # Last, so that a command that is killed before does all this again.
  record = dataclasses.replace(directory.record, changes=entries)
  run_record.write(path, record)


def _is_extended(directory, steps):
  """Whether a command adds steps to a finished run. Raises UserError if it only
  changes other keys."""
  if all(change.is_free for change in directory.changes):
    return False
  path, done = directory.path, directory.progress
  if steps > done > 0:
    return True
  keys = ', '.join(change.key for change in directory.changes)
  if not steps:
    raise errors.UserError(
      f'{path} is finished, so a change of {keys} has no effect: use another '
      '--workdir'
    )
  raise errors.UserError(
    f'{path} is finished after {done} steps, so a change of {keys} has no '
    'effect: add steps (--change steps=N), or begin another run with '
    f'config.init={path}/model'
  )


def _new_record(directory, code, records_digest, found: Mapping[str, Input]):
  """The record of a new run."""
  options, old = directory.config, directory.record
  config = config_changes.plain(dataclasses.asdict(options))
  default = config_changes.plain(dataclasses.asdict(type(options)()))
  has_date = (old and old.date) or run_date.was_asked()
  return RunRecord(
    date=directory.date if has_date else '',
    changed=configs.changes(default, config),
    code=code,
    records=records_digest,
    inputs=inputs.as_json(found),
    config=config,
    defaults_kept=directory.defaults_kept,
  )


def _read(path):
  """[fields of the record or None, progress, date of the run] of a work
  directory."""
  record = run_record.read(path)
  steps, chunks = saved(path)
  now = datetime.datetime.now().isoformat(timespec='seconds')
  found = dataclasses.asdict(record) if record else None
  date = (record and record.date) or now
  return [found, steps or chunks, date]
