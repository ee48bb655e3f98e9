"""Saves and restores a run's state with orbax. Every leaf has a checksum,
because orbax restores flipped bits and changed dtypes without an error."""

import contextlib
import errno
import json
import logging
import math
import os
import sys
import time
import uuid
import zlib
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import traverse_util
from orbax.checkpoint import args

from r1jax import errors
from r1jax.distributed import hosts
from r1jax.training import checksum

PyTree = Any
Manager: TypeAlias = ocp.CheckpointManager

PARAMS = 'params/', 'train/params/'  # how the names of parameters begin
# Files of a step apart from its state. The manifest has the checksums.
SMALL_FILES = 'facts/metadata', 'manifest/metadata', 'metrics/metrics'
DISK_FULL = 'No space left', 'File too large', 'quota exceeded'
# Files of orbax that log errors of its threads, which _wait raises later.
RAISED_LATER = 'future.py', 'async_checkpointer.py', 'checkpoint_manager.py'


class _NewestAndBest(NamedTuple):
  """Orbax's own BestN also preserves steps without a score."""

  keep: int
  best: int

  def should_preserve(self, checkpoints, *, context):
    scored = [c for c in checkpoints if c.metrics['score'] is not None]
    scored.sort(key=lambda c: (c.metrics['score'], c.step), reverse=True)
    newest = checkpoints[-self.keep :]
    steps = {c.step for c in [*newest, *scored[: self.best]]}
    return [c.step in steps for c in checkpoints]


def open_manager(directory: str | os.PathLike, keep: int, best: int) -> Manager:
  """Opens a run's checkpoints. Keeps the newest `keep` steps and the `best`
  steps with the highest scores (newer on ties). Renames incomplete steps."""
  directory = epath.Path(directory).absolute()
  logging.getLogger('absl').addFilter(_is_not_raised_later)
  hosts.run_once(lambda: _set_aside_unreadable(directory))
  barrier = None
  if hosts.count() > 1:
    # With orbax's own barrier, hosts would wait for one whose write failed.
    barrier = hosts.Barrier(hosts.run_once(lambda: uuid.uuid4().hex))
  options = ocp.CheckpointManagerOptions(
    async_options=ocp.options.AsyncOptions(barrier_sync_fn=barrier),
    preservation_policy=_NewestAndBest(keep, best),
    # Without a best_fn orbax does not write the score.
    best_fn=lambda m: -math.inf if m['score'] is None else m['score'],
    cleanup_tmp_directories=True,
  )
  return Manager(directory, options=options)


def save(
  manager: Manager, step: int, state: PyTree, facts: dict, score: float | None
) -> None:
  """Writes the arrays of `state` and the JSON `facts` in the background; the
  caller may donate the state at once. Raises the error of the previous save.
  Leaves that are not global arrays must be the same on all hosts."""
  _wait(manager)
  state = jax.tree.map(hosts.to_global, state)
  facts = json.loads(json.dumps(facts))
  manifest = dict(leaves=_checked_leaves(state), facts=_crc(facts), score=score)
  items = args.Composite(
    state=args.StandardSave(state),
    facts=args.JsonSave(facts),
    manifest=args.JsonSave(dict(manifest, crc=_crc(manifest))),
  )
  if not manager.save(step, args=items, metrics=dict(score=score)):
    raise errors.UserError(
      f'{manager.directory} already holds step {manager.latest_step()}, so '
      f'step {step} cannot be saved: resume from there or use a new directory'
    )


def restore(manager: Manager, like: PyTree) -> tuple[PyTree, dict, int] | None:
  """(state, facts, step) of the newest undamaged step; None if none was saved.
  `like` has the tree, shapes, dtypes and shardings of the state. Damaged steps
  are reported and renamed, but if all are damaged a UserError is raised."""
  _wait(manager)
  steps = sorted(manager.all_steps(), reverse=True)
  set_aside = sorted(path.name for path in manager.directory.glob('damaged-*'))
  if not steps and not set_aside:
    return None
  damaged = []
  for step in steps:
    path = manager.directory / str(step)
    if restored := _restore_step(path, like):
      break
    damaged.append(path)
  else:
    names = [path.name for path in damaged] + set_aside
    raise errors.UserError(
      f'no checkpoint in {manager.directory} can be restored (damaged: '
      f'{", ".join(names)}); put back a copy, or remove them to start over'
    )
  if damaged:
    _print(f'falling back to step {step}')
    for path in damaged:
      hosts.run_once(lambda: _set_aside(path, 'damaged'))
    manager.reload()
  state, facts = restored
  return jax.tree.map(hosts.to_local, state, like), facts, step


def saved_scores(directory: str | os.PathLike) -> dict[int, float | None]:
  """{step: score} of the complete steps, in order. Changes no file."""
  folder, scores = epath.Path(directory).absolute(), {}
  if not folder.exists():
    return {}
  for step in sorted(ocp.utils.checkpoint_steps(folder)):
    with contextlib.suppress(Exception):  # of a damaged step
      _, manifest = _read_facts(folder / str(step))
      scores[step] = manifest['score']
  return scores


def read_step(
  directory: str | os.PathLike, step: int, like: PyTree
) -> tuple[PyTree, dict]:
  """(state, facts) of a step; `like` is that of restore(). Changes no file.
  Raises UserError if the step is damaged."""
  path = epath.Path(directory).absolute() / str(step)
  restored = _restore_step(path, like)
  if not restored:
    raise errors.UserError(f'{path} is damaged: choose another step')
  state, facts = restored
  return jax.tree.map(hosts.to_local, state, like), facts


def read_params(directory: str | os.PathLike, step: int) -> dict:
  """The parameters of a step as host arrays, without the rest of its state.
  Changes no file. Raises UserError if they are damaged."""
  path = epath.Path(directory).absolute() / str(step)
  with errors.explained(f'{path} is damaged'):
    _, manifest = _read_facts(path)
    names = [x for x in manifest['leaves'] if x.startswith(PARAMS)]
    tree = traverse_util.unflatten_dict(dict.fromkeys(names, 0), sep='/')
    as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    tree = ocp.PyTreeCheckpointHandler().restore(
      path / 'state',
      args=args.PyTreeRestore(
        item=tree,
        restore_args=jax.tree.map(lambda _: as_numpy, tree),
        partial_restore=True,
      ),
    )
    for name, leaf in _checked_leaves(tree).items():
      if leaf != manifest['leaves'][name]:
        raise ValueError(f'leaf {name} does not match its checksum')
  return tree.get('train', tree)['params']


def is_saved(manager: Manager, step: int) -> bool:
  """Whether a step is completely on disk. May be called from any thread."""
  return step in ocp.utils.checkpoint_steps(manager.directory)


def close(manager: Manager) -> None:
  """Waits until the last save is on disk; raises its error, if it failed."""
  try:
    _wait(manager)
  finally:
    manager.close()


def _wait(manager):
  try:
    manager.wait_until_finished()
  except Exception as error:
    manager.reload()
    full = any(text in str(error) for text in DISK_FULL)
    raise OSError(
      errno.ENOSPC if full else errno.EIO,
      f'a checkpoint could not be written (disk full?), the newest step is '
      f'{manager.latest_step()}: {error}',
      str(manager.directory),
    ) from error


def _is_not_raised_later(record):
  """A filter of log records: without the tracebacks of orbax's threads."""
  is_orbax = os.path.join('orbax', 'checkpoint') in record.pathname
  return not (record.exc_info and is_orbax and record.filename in RAISED_LATER)


def _restore_step(path, like):
  """(state, facts) of a step; None on all hosts if one of them found damage."""
  fault = ''
  try:
    facts, manifest = _read_facts(path)
    _check_same_run(path, like, manifest)
    # Not by the manager, whose restore waits for hosts that have failed.
    wanted = args.StandardRestore(jax.tree.map(hosts.to_global, like))
    state = ocp.StandardCheckpointHandler().restore(path / 'state', args=wanted)
  except errors.UserError:
    raise
  except Exception as error:  # Damaged files cause errors of any kind.
    if errors.temporary_cause(error):
      raise
    fault = repr(error)[:500]
  # Checksums are a collective, so all hosts must have read the step.
  if not any(hosts.gather(fault)):
    leaves, saved = _checked_leaves(state), manifest['leaves']
    wrong = [name for name in leaves if leaves[name] != saved[name]]
    fault = f'leaf {wrong[0]} does not match its checksum' if wrong else ''
    if not any(hosts.gather(fault)):
      return state, facts
  if fault:
    _print(f'{path} is DAMAGED: {fault}')
  return None


def _check_same_run(path, like, manifest):
  saved = {name: leaf['array'] for name, leaf in manifest['leaves'].items()}
  leaves = {name: _signature(x) for name, x in _named_leaves(like).items()}
  for name in sorted(saved | leaves):
    here, there = leaves.get(name, 'absent'), saved.get(name, 'absent')
    if here != there:
      raise errors.UserError(
        f'{path} is of another model or optimiser: {name} is {there} there and '
        f'{here} in this run; resume with the config that it was saved with'
      )


def _read_facts(path):
  """(facts, manifest) of a step, after a check against each other."""
  texts = ((path / file).read_text() for file in SMALL_FILES)
  facts, manifest, metrics = map(json.loads, texts)
  crc = manifest.pop('crc')
  if crc != _crc(manifest) or manifest['facts'] != _crc(facts):
    raise ValueError('the facts do not match their CRC')
  if metrics != dict(score=manifest['score']):
    raise ValueError(f'the score is {metrics}, not {manifest["score"]}')
  return facts, manifest


def _set_aside_unreadable(directory):
  """Renames incomplete or damaged steps, which orbax takes for complete."""
  directory.mkdir(parents=True, exist_ok=True)
  for path in [path for path in directory.iterdir() if path.name.isdigit()]:
    try:
      _read_facts(path)
    except FileNotFoundError:
      _set_aside(path, 'incomplete')
    except Exception as error:  # Damaged files cause errors of any kind.
      if errors.temporary_cause(error):
        raise
      _print(f'{path} is DAMAGED: {error!r}')
      _set_aside(path, 'damaged')


def _set_aside(path, reason):
  new = path.parent / f'{reason}-{path.name}-{time.time_ns()}'
  path.rename(new)
  _print(f'step {path.name} is {reason} and is renamed to {new}')


def _named_leaves(tree):
  leaves, pairs = {}, jax.tree_util.tree_leaves_with_path(tree)
  for path, leaf in pairs:
    leaves[jax.tree_util.keystr(path, simple=True, separator='/')] = leaf
  assert len(leaves) == len(pairs), 'two leaves have the same name'
  return leaves


def _checked_leaves(state):
  """{name: {'array': dtype and shape, 'checksum': [2]}}, as in the manifest."""
  checked, leaves = {}, _named_leaves(state)
  for name, pair in checksum.compute(leaves).items():
    checked[name] = dict(array=_signature(leaves[name]), checksum=pair)
  return checked


def _signature(leaf):
  return f'{np.dtype(leaf.dtype)}{list(leaf.shape)}'


def _crc(value):
  return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def _print(text):
  line = f'checkpoint: {errors.printable(text)}'
  print(line, file=sys.stderr, flush=True)
