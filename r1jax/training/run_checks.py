"""Whether files, records and user code are those with which a run began, and
whether a command accepts that they are not."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from r1jax import errors
from r1jax.distributed import agreement
from r1jax.training import inputs
from r1jax.training.config_changes import Change, Changed
from r1jax.training.inputs import Input
from r1jax.training.run_record import RunRecord


class Began(NamedTuple):
  """A run that began earlier, and a command that continues it."""

  path: Path
  record: RunRecord
  fixed: str  # why nothing can change in this stage; '' if it can
  change: Change  # what the command accepts


def input_changes(began: Began, found: Mapping[str, Input]) -> list[Changed]:
  """Inputs whose content is not that of config.json. Raises UserError if the
  command does not accept it, or if it cannot be accepted."""
  old, changes = began.record.inputs or {}, []
  for key, one in found.items():
    difference = inputs.difference(old[key], one) if key in old else ''
    if difference:
      # Results of other evaluations are read after the last chunk.
      can_accept = not began.fixed or one.kind == 'results'
      sentence = (
        f'config.{key} ({one.source}) has changed since the run in '
        f'{began.path} began: {difference}'
      )
      _check_accepted(began, sentence, 'files', can_accept)
      name = f'content of config.{key}'
      pair = agreement.digest(old[key]['files']), agreement.digest(one.files)
      changes.append(Changed(name, *pair))
  return changes


def records_changes(began: Began, new: str) -> list[Changed]:
  """The change of the records that the run uses, by their digest. Raises as
  input_changes."""
  old = began.record.records or new
  if old == new:
    return []
  sentence = f'the records have changed since the run in {began.path} began'
  _check_accepted(began, sentence, 'records', not began.fixed)
  return [Changed('records', old, new)]


def code_changes(began: Began, code: Mapping[str, str]) -> list[Changed]:
  """User code whose digest differs from config.json's. Raises UserError if the
  command does not accept it."""
  old = began.record.code
  names = [name for name in code if name in old and old[name] != code[name]]
  if names and not began.change.accept_code:
    raise errors.UserError(
      f'the code of {", ".join(names)} has changed since the run in '
      f'{began.path} began: continue with the new code from the newest '
      'checkpoint on (--accept-code), put the old code back, or use another '
      '--workdir'
    )
  return [Changed(f'code of {name}', old[name], code[name]) for name in names]


def _check_accepted(began, sentence, what, can_accept):
  """Raises UserError, with what can be done, unless the command accepts that
  its files or records have changed, and the stage can continue with others."""
  if can_accept and began.change.accept_inputs:
    return
  sentence += f': put the old {what} back, or use another --workdir'
  if can_accept:
    sentence += f', or continue with the new {what} (--accept-inputs)'
  else:
    sentence += f', since {began.fixed}'
  raise errors.UserError(sentence)
