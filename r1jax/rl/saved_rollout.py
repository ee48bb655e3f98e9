"""With max_staleness=1 a checkpoint has a rollout beside it: the one that was
sampled by the policy before and that the next update learns from."""

import io
import json
import os
import pathlib
import zipfile

import numpy as np

from r1jax import files
from r1jax.distributed import hosts, watchdog
from r1jax.rewards import pending
from r1jax.rl import grpo, grpo_config
from r1jax.rl.rl_run import Run, Sampling
from r1jax.rl.rollouts import Rollout
from r1jax.sampling.decode import SampledRows
from r1jax.sampling.generate import Samples

FOLDER = 'rollouts'  # in the work directory
COLUMNS = 'old_BL', 'ref_BL'  # of a batch, beside those of the rows
DAMAGE = OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile


def write(run: Run, step: int, rollout: Rollout) -> None:
  """Writes the rollout that the update after `step` learns from, and removes
  those of steps without checkpoint. Host 0 writes, since all have all rows."""
  if hosts.index() > 0:
    return
  path = _path(run, step)
  path.parent.mkdir(parents=True, exist_ok=True)
  kept = {_path(run, n) for n in [*run.checkpoints.all_steps(), step]}
  for old in path.parent.iterdir():
    if old not in kept:
      old.unlink()
  number_of = {id(x): n for n, x in enumerate(run.sampling.records)}
  facts = dict(
    texts=rollout.samples.texts,
    records=[number_of[id(x)] for x in rollout.samples.records],
    max_new_tokens=rollout.max_new_tokens,
    next_prompt=rollout.next_prompt,
    seconds=rollout.seconds,
    success=rollout.success,
  )
  arrays = {
    f'rows/{name}': x
    for name, x in vars(rollout.samples.rows).items()
    if x is not None
  }
  arrays |= {k: rollout.batch[k] for k in COLUMNS if k in rollout.batch}
  temporary = path.with_name(path.name + '.tmp')
  with files.named(path):
    with open(temporary, 'wb') as file:
      np.savez(file, facts=json.dumps(facts), **arrays)
    os.replace(temporary, path)


def read(run: Run, step: int) -> Rollout | None:
  """The rollout beside the checkpoint of `step`, with its rewards submitted;
  None if there is none that fits the config. A collective."""
  if not step:
    return None
  found = None
  try:
    found = _read(_path(run, step).read_bytes())
  except DAMAGE as error:
    problem = f'{type(error).__name__}: {error}'
  else:
    problem = _misfit(run, *found)
  for host_problem in hosts.gather(problem):
    if host_problem:
      watchdog.print_error(
        f'the rollout that step {step + 1} learns from cannot be read '
        f'({host_problem}): it is sampled again, by a newer policy'
      )
      return None
  assert found
  return _rollout(run.sampling, *found)


def _path(run, step) -> pathlib.Path:
  return pathlib.Path(run.checkpoints.directory).parent / FOLDER / f'{step}.npz'


def _read(data):
  """(facts, arrays) of a file; the checksums of the zip archive are checked."""
  with np.load(io.BytesIO(data)) as file:
    arrays = {name: file[name] for name in file.files}
  facts = json.loads(str(arrays.pop('facts')))
  return dict(success={}) | facts, arrays  # which older files lack


def _misfit(run, facts, arrays):
  """Why the config, which may have changed, cannot use the rollout; '' if it
  can."""
  config = run.config.grpo
  rows = config.prompts_per_step * config.group_size
  if len(facts['texts']) != rows:
    return f'it has {len(facts["texts"])} samples, not {rows}'
  if grpo_config.needs_old_logprobs(config) and 'old_BL' not in arrays:
    return "it has no log-probabilities of the trainer's"
  if config.kl_coef and 'ref_BL' not in arrays:
    return 'it has no log-probabilities of a reference'
  return ''


def _rollout(sampling: Sampling, facts, arrays):
  rows = {
    name.removeprefix('rows/'): x
    for name, x in arrays.items()
    if name.startswith('rows/')
  }
  samples = Samples(
    records=[sampling.records[n] for n in facts['records']],
    texts=facts['texts'],
    rows=SampledRows(**rows),
  )
  batch = grpo.columns(samples.rows)
  batch |= {name: arrays[name] for name in COLUMNS if name in arrays}
  return Rollout(
    samples=samples,
    rewards=pending.submit(sampling.scorer, samples.records, samples.texts),
    batch=batch,
    max_new_tokens=facts['max_new_tokens'],
    next_prompt=facts['next_prompt'],
    seconds=facts['seconds'],
    success=facts['success'],
  )
