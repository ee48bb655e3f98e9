"""Saves and restores the state of a run; the only room that knows orbax.

Orbax commits a step atomically, but restores a flipped bit or another dtype
without a word: every leaf has a checksum here, and damage is never restored. A
checksum is of the values, however they lie on devices and hosts.
"""

import dataclasses
import errno
import functools
import json
import math
import sys
import time
import uuid
import zlib

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from r1jax import errors
from r1jax.distributed import hosts
from r1jax.training import checksum

SMALL = ('facts/metadata', 'crcs/metadata', 'metrics/metrics')
FORMAT = 2  # 1, before there were numbers: a CRC32 of each leaf's bytes
FULL = 'No space left', 'File too large', 'quota exceeded'


@dataclasses.dataclass(frozen=True)
class _NewestAndBest:
  """The preservation policy; orbax's BestN also keeps steps without a score."""

  keep: int
  best: int

  def should_preserve(self, checkpoints, *, context):
    scored = [c for c in checkpoints if c.metrics['score'] is not None]
    scored.sort(key=lambda c: (c.metrics['score'], c.step), reverse=True)
    newest = checkpoints[-self.keep :]
    steps = {c.step for c in [*newest, *scored[: self.best]]}
    return [c.step in steps for c in checkpoints]


def open_manager(directory, keep: int, best: int) -> ocp.CheckpointManager:
  """Opens (or creates) a directory for the one run that writes to it.

  Kept are the newest `keep` steps and the `best` of highest score (of equal
  ones the newer; a step without a score is never among them). What a killed
  run left half-written is put out of the way. `manager.best_step()` names the
  best step.
  """
  assert keep > 0 and best >= 0
  directory = epath.Path(directory).absolute()
  hosts.run_once(lambda: _clean(directory))
  barrier = None
  if hosts.count() > 1:
    # Orbax's own has all hosts wait for the one that could not write.
    barrier = hosts.barrier(hosts.run_once(lambda: uuid.uuid4().hex))
  options = ocp.CheckpointManagerOptions(
    async_options=ocp.options.AsyncOptions(barrier_sync_fn=barrier),
    preservation_policy=_NewestAndBest(keep, best),
    # Without a best_fn orbax does not write the score.
    best_fn=lambda m: -math.inf if m['score'] is None else m['score'],
    cleanup_tmp_directories=True,
  )
  return ocp.CheckpointManager(directory, options=options)


def save(manager, step: int, state, facts: dict, score: float | None) -> None:
  """Writes the arrays of `state` and the JSON `facts` as `step`, in background.

  Returns when the arrays are copied to the host, so the state may be donated;
  raises what went wrong in the save before. What a host has for itself, numpy
  arrays too, is the same on all.
  """
  assert score is None or math.isfinite(score), score
  _wait(manager)
  state = jax.tree.map(hosts.to_global, state)
  leaves = _named_leaves(state)
  facts, sums = json.loads(json.dumps(facts)), checksum.of(leaves)
  crcs = dict(
    format=FORMAT,
    leaves={k: [*_signature(x), sums[k]] for k, x in leaves.items()},
    facts=_json_crc(facts),
    score=score,
  )
  saved = manager.save(
    step,
    metrics=dict(score=score),
    args=ocp.args.Composite(
      state=ocp.args.StandardSave(state),
      facts=ocp.args.JsonSave(facts),
      crcs=ocp.args.JsonSave(dict(crcs, crcs=_json_crc(crcs))),
    ),
  )
  if not saved:
    raise errors.UserError(
      f'{manager.directory} already holds step {manager.latest_step()}, so '
      f'step {step} cannot be saved: resume from there or use a new directory'
    )


def restore(manager, like, step: int | None = None):
  """Returns (state, facts, step) of the newest good step, None without any.

  `like` has the tree, shapes, dtypes and shardings of the state. A damaged step
  is reported and left for the one before it; a `step` that was asked for is
  restored or an error.
  """
  _wait(manager)
  steps = sorted(manager.all_steps(), reverse=True)
  aside = sorted(p.name for p in manager.directory.glob('damaged-*'))
  if not steps and not aside:
    return None
  if step is not None and step not in steps:
    raise errors.UserError(
      f'{manager.directory} has no step {step}; it has {steps}'
    )
  damaged = []
  for candidate in steps if step is None else [step]:
    where = f'step {candidate} in {manager.directory}'
    read = functools.partial(_restore_step, manager, like, candidate, where)
    found = _undamaged(where, read)
    # A host alone may have read damage: only then all look at the checksums.
    if found and _undamaged(where, functools.partial(_verify, where, *found)):
      break
    damaged.append(candidate)
  else:
    raise errors.UserError(
      f'no checkpoint in {manager.directory} can be restored (damaged: '
      f'{damaged + aside}); put back a copy, or remove them to start over'
    )
  if damaged:
    _say(f'falling back to step {candidate}')

    def aside():
      return [_set_aside(manager.directory / str(n)) for n in damaged]

    hosts.run_once(aside)
    manager.reload()
  state, facts, _ = found
  return jax.tree.map(hosts.to_local, state, like), facts, candidate


def is_saved(manager, step: int) -> bool:
  """Whether a step is on disk to its last byte; any thread may ask."""
  return step in ocp.utils.checkpoint_steps(manager.directory)


def close(manager) -> None:
  """Waits until the last save is on disk; raises what went wrong in it."""
  try:
    _wait(manager)
  finally:
    manager.close()


def _wait(manager):
  try:
    manager.wait_until_finished()
  except Exception as error:
    manager.reload()
    full = any(words in str(error) for words in FULL)
    raise OSError(
      errno.ENOSPC if full else errno.EIO,
      f'a checkpoint could not be written (disk full?), the newest step is '
      f'{manager.latest_step()}: {error}',
      str(manager.directory),
    ) from error


def _undamaged(where, read):
  """read(), None on all hosts where it failed on one of them."""
  found, fault = None, None
  try:
    found = read()
  except errors.UserError:
    raise
  except Exception as error:  # Of any kind: the bytes on disk are arbitrary.
    fault = _first_line(error)
    _say(f'{where} is DAMAGED: {fault}')
  return found if not any(hosts.gather(fault)) else None


def _restore_step(manager, like, step, where):
  facts, crcs = _read_facts(manager.directory / str(step))
  if crcs.get('format', 1) > FORMAT:
    raise errors.UserError(
      f'{where} has the format {crcs["format"]} of a later r1jax, this one '
      f'reads formats up to {FORMAT}: go on with the version that wrote it'
    )
  _check_same_tree(like, crcs['leaves'], where)
  # The manager's own restore waits for hosts that have failed.
  state = ocp.StandardCheckpointHandler().restore(
    manager.directory / str(step) / 'state',
    args=ocp.args.StandardRestore(jax.tree.map(hosts.to_global, like)),
  )
  return state, facts, crcs


def _verify(where, state, facts, crcs):
  """Compares every leaf with what was saved."""
  leaves = _named_leaves(state)
  if 'format' in crcs:
    sums = checksum.of(leaves)
  else:
    _say(f'{where} has the older format 1; the next is saved in {FORMAT}')
    sums = {name: checksum.crc(leaf) for name, leaf in leaves.items()}
  for name, leaf in leaves.items():
    *signature, known = crcs['leaves'][name]
    if signature != _signature(leaf) or sums[name] not in (known, None):
      raise ValueError(f'leaf {name} does not match its checksum')
  return True


def _check_same_tree(like, saved, where):
  here = {name: _signature(x) for name, x in _named_leaves(like).items()}
  for names, fault in (
    (here.keys() - saved.keys(), 'lacks'),
    (saved.keys() - here.keys(), 'has, and this run lacks,'),
  ):
    if names:
      raise errors.UserError(
        f'{where} is of another model or optimiser: it {fault} '
        f'{", ".join(sorted(names)[:5])} ({len(names)} in all)'
      )
  for name, (dtype, shape) in here.items():
    if [dtype, shape] != saved[name][:2]:
      raise errors.UserError(
        f'{where} has {name} as {saved[name][0]}{saved[name][1]}, this run as '
        f'{dtype}{shape}: resume with the config it was saved with'
      )


def _read_facts(path):
  """Reads the small files of a step and checks them against each other."""
  facts, crcs, metrics = (json.loads((path / f).read_text()) for f in SMALL)
  crc = crcs.pop('crcs')
  if crc != _json_crc(crcs) or crcs['facts'] != _json_crc(facts):
    raise ValueError('the facts do not match their CRC')
  if metrics != dict(score=crcs['score']):
    raise ValueError(f'the score is {metrics}, not {crcs["score"]}')
  return facts, crcs


def _clean(directory):
  directory.mkdir(parents=True, exist_ok=True)
  for path in directory.iterdir():
    if path.name.isdigit():
      _set_aside_unreadable(path)


def _set_aside_unreadable(path):
  # Orbax takes any directory with a number for a step, an empty one and one
  # that was being deleted too.
  if not all((path / f).exists() for f in SMALL):
    _set_aside(path, 'incomplete')
    return
  try:
    _read_facts(path)
  except Exception as error:  # Of any kind: the bytes on disk are arbitrary.
    _say(f'step {path.name} in {path.parent} is DAMAGED: {_first_line(error)}')
    _set_aside(path)


def _set_aside(path, why='damaged'):
  aside = path.parent / f'{why}-{path.name}-{time.time_ns()}'
  path.rename(aside)
  _say(
    f'step {path.name} is {why} and is now {aside}; remove it when looked at'
  )


def _named_leaves(tree):
  pairs = jax.tree_util.tree_leaves_with_path(tree)
  leaves = {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in pairs
  }
  assert len(leaves) == len(pairs), 'two leaves have the same name'
  return leaves


def _signature(leaf):
  return [str(np.dtype(leaf.dtype)), list(leaf.shape)]


def _json_crc(value):
  return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def _first_line(error):
  return f'{type(error).__name__}: {error}'.partition('\n')[0]


def _say(sentence):
  print(f'checkpoint: {sentence}', file=sys.stderr, flush=True)
