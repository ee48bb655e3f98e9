"""config.json of a work directory: what a run is and with what it began."""

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

from r1jax import errors, files

FILE = 'config.json'


def _empty(kind):
  return dataclasses.field(default_factory=kind)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
  """The content of config.json. What a run of an earlier version lacks has its
  default here."""

  date: str = ''  # of the beginning, if a template has asked for it
  changed: dict[str, Any] = _empty(dict)  # [default, value] of other values
  changes: list[dict] = _empty(list)  # with the step from which they are valid
  code: dict[str, str] = _empty(dict)  # digests of user code by name
  records: str = ''  # the digest of the records
  inputs: dict[str, dict] | None = None  # see inputs.as_json
  config: dict[str, Any]  # all keys of the stage
  defaults_kept: dict[str, Any] = _empty(dict)  # see config_changes


def read(workdir: Path) -> RunRecord | None:
  """The record of a work directory; None if there is no config.json. Raises
  UserError if that was not written by a stage."""
  file = workdir / FILE
  if not file.exists():
    return None
  with errors.explained(f'{file} is not a config that a stage has written'):
    content = json.loads(file.read_text())
    return _checked(content)


def write(workdir: Path, record: RunRecord) -> None:
  """Writes config.json, without the parts that the run does not have."""
  content = dataclasses.asdict(record)
  for name in ('date', 'defaults_kept'):
    if not content[name]:
      del content[name]
  problem = f'cannot write to the work directory {workdir}'
  with errors.explained(problem, OSError):
    files.write_text(workdir / FILE, json.dumps(content, indent=2) + '\n')


def _checked(content):
  """The RunRecord of a JSON value. Raises an exception if it is none."""
  if not isinstance(content, dict):
    raise ValueError('it is no object of JSON')
  names = [field.name for field in dataclasses.fields(RunRecord)]
  record = RunRecord(**{x: content[x] for x in names if x in content})
  for name, default in vars(RunRecord(config={}, inputs={})).items():
    value = getattr(record, name)
    if value is not None and type(value) is not type(default):
      raise ValueError(f'{name} is no {type(default).__name__}')
  for name, one in (record.inputs or {}).items():
    if not isinstance(one, dict) or not isinstance(one['files'], dict):
      raise ValueError(f'inputs.{name} has no files')
    one['source']
  for entry in record.changes:
    if not isinstance(entry, dict) or not isinstance(entry['step'], int):
      raise ValueError('an entry of changes has no step')
    entry['key'], entry['old'], entry['new']
  if record.date:
    datetime.datetime.fromisoformat(record.date)
  return record
