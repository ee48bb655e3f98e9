"""Recomputes the rollout of an update: restores the newest checkpoint before
it, and repeats the updates in between. The run's directory is not changed."""

import contextlib
import json
import tempfile
from pathlib import Path

import jax
import numpy as np

from r1jax import config as configs
from r1jax import errors, files, user_code
from r1jax.api import run_samples, work_directory
from r1jax.api.run_samples import RunSamples
from r1jax.api.work_directory import WorkDirectory
from r1jax.data import record_files, run_date
from r1jax.distributed import agreement, device_placement, programs
from r1jax.models import token_logprobs
from r1jax.rewards.pending import Rewards
from r1jax.rl import (
  grpo_config,
  log,
  rl_config,
  rl_records,
  rl_run,
  rollouts,
  setup,
)
from r1jax.rl.rl_run import Position, RlState, Run, Sampling
from r1jax.rl.rollouts import Rollout
from r1jax.stages import rl
from r1jax.training import checkpoint, inputs, metrics
from r1jax.training.progress import Progress

COMPARED = 'id', 'response', 'reward'  # of the lines of samples.jsonl


def samples_of(directory: WorkDirectory, step: int) -> RunSamples:
  """The rollout that the update `step` of an rl run learned from. Raises
  UserError if it cannot be recomputed, or differs from samples.jsonl."""
  check(directory, step)
  with contextlib.ExitStack() as stack:
    stack.enter_context(run_date.at(directory.record.date))
    run, state, position = replay(stack, directory, step)
    sampling, config = run.sampling, run.config.grpo
    state, position, rollout, rewards = sample(run, state, position)
    check_logged(directory, position.step + config.updates, rollout, rewards)
    batch = rollouts.make_batch(config, rollout, rewards)
    params, old_BL = rl_run.policy_params(run, state), batch['old_BL']
    if grpo_config.is_on_policy(config):
      program = sampling.policy_logprobs
      old_BL = rollouts.logprobs(sampling, program, params, batch)
    entropy_BL = entropies(sampling, params, batch)
    state, _ = rl.update(run, state, batch, position.step, rollout)
    new_BL = rollouts.logprobs(
      sampling,
      sampling.policy_logprobs,
      rl_run.policy_params(run, state),
      batch,
    )
    run.progress.show(step, {})
  return run_samples.make(
    step,
    sampling.tokenizer,
    rollout.samples,
    rewards,
    adv_BL=batch['adv_BL'],
    ratio_BL=np.exp(new_BL - old_BL),
    entropy_BL=entropy_BL,
  )


def check(directory: WorkDirectory, step: int) -> None:
  """Raises UserError for a step that cannot be recomputed."""
  path = directory.path
  if directory.stage is not rl:
    raise errors.UserError(f'{path} is not a run of rl, so it has no rollouts')
  file = path / 'metrics.jsonl'
  lines = files.read_jsonl(file) if file.exists() else []
  steps = max((line['step'] for line in lines), default=0)
  if not isinstance(step, int | np.integer):
    raise errors.UserError(
      f'the step is {step!r}: give the number of an update, 1 to {steps}'
    )
  if not 1 <= step <= steps:
    raise errors.UserError(f'there is no step {step}: {path} has 1 to {steps}')
  config = work_directory.config_at(directory, step - 1)
  if config.grpo.max_staleness:
    raise errors.UserError(
      f'{path} has config.grpo.max_staleness=1: its rollouts cannot be '
      'recomputed, since a resumed run samples them with another policy'
    )
  check_code(directory, user_code.digests(configs.code_names(config)))


def check_code(directory: WorkDirectory, code: dict[str, str]) -> None:
  """Raises UserError if these digests are not those of the run."""
  old = directory.record.code
  for name, digest in code.items():
    if name in old and old[name] != digest:
      raise errors.UserError(
        f'the code of {name} has changed since the run in {directory.path}: '
        'put the old code back to recompute its rollouts'
      )


def check_inputs(directory: WorkDirectory, config: rl_config.Config) -> None:
  """Raises UserError if the files that the run reads have other content."""
  old = directory.record.inputs or {}
  for key, one in inputs.read(config).items():
    difference = inputs.difference(old[key], one) if key in old else ''
    if difference:
      raise errors.UserError(
        f'config.{key} ({one.source}) has changed since the run in '
        f'{directory.path}: {difference}: put the old files back to recompute '
        'its rollouts'
      )


def replay(
  stack: contextlib.ExitStack, directory: WorkDirectory, step: int
) -> tuple[Run, RlState, Position]:
  """The run before the rollout that the update `step` learned from."""
  scores = checkpoint.saved_scores(directory.checkpoints)
  start = max((saved for saved in scores if saved < step), default=0)
  options = directory.stage.Config()
  replayed_keys = {key for key, _, _ in configs.named_options(options)}
  for change in directory.record.changes:
    is_replayed = change['key'] in replayed_keys
    if not is_replayed and change['step'] > start:
      raise errors.UserError(
        f'{change["key"]} was changed at step {change["step"]}, and there '
        f'is no checkpoint between it and step {step}'
      )
  progress = Progress(step, start, unit='recomputed step')
  stack.callback(progress.close)
  config = work_directory.config_at(directory, start)
  run, state = open_run(stack, directory, config, progress)
  position = Position()
  if start:
    state, facts = checkpoint.read_step(directory.checkpoints, start, state)
    position = Position(**facts)
  while position.step + run.config.grpo.updates < step:
    state, position, rollout, rewards = sample(run, state, position)
    batch = rollouts.make_batch(run.config.grpo, rollout, rewards)
    state, lines = rl.update(run, state, batch, position.step, rollout)
    position = rl.position_after(run.config, position, rollout, rewards, lines)
    progress.show(position.step, {})
    config = work_directory.config_at(directory, position.step)
    if config != run.config:
      run, like = open_run(stack, directory, config, progress)
      shardings = jax.tree.map(lambda leaf: leaf.sharding, like)
      state = jax.device_put(state, shardings)
  return run, state, position


def open_run(
  stack: contextlib.ExitStack,
  directory: WorkDirectory,
  config: rl_config.Config,
  progress: Progress,
) -> tuple[Run, RlState]:
  """A run with this config, and its state before the first update. What it
  writes goes to a temporary folder."""
  placement, rollout_placement = device_placement.placements(config.parallel)
  rl_config.check(config, placement, rollout_placement)
  sampling, params = setup.load_sampling(stack, config, rollout_placement)
  records = [*sampling.records, *sampling.held_out_records]
  scored = rl_records.verified_records(config, records)
  check_code(directory, record_files.scorer_code(scored))
  check_inputs(directory, config)
  digest = agreement.digest_of_records(records)
  if directory.record.records not in ('', digest):
    raise errors.UserError(
      f'the records have changed since the run in {directory.path}: put the '
      'old records back to recompute its rollouts'
    )
  updates, state = setup.first_state(config, placement, sampling, params)
  folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
  checkpoints = checkpoint.open_manager(folder / 'checkpoints', keep=1, best=0)
  stack.callback(checkpoint.close, checkpoints)
  run = Run(
    config=config,
    placement=placement,
    sampling=sampling,
    updates=updates,
    checkpoints=checkpoints,
    writer=metrics.Writer(folder),
    progress=progress,
  )
  return run, state


def sample(
  run: Run, state: RlState, position: Position
) -> tuple[RlState, Position, Rollout, Rewards]:
  """The first half of rl.step: the next rollout and its rewards."""
  state, position = rl.refresh_reference(run, state, position)
  params, ref_params = rl.rollout_params(run, state)
  rollout = rollouts.sample_rollout(run.sampling, params, ref_params, position)
  return state, position, rollout, rollouts.rewards_of(rollout)


def check_logged(
  directory: WorkDirectory, step: int, rollout: Rollout, rewards: Rewards
) -> None:
  """Raises UserError if samples.jsonl has other samples of this step."""
  path = directory.path / 'samples.jsonl'
  logged = files.read_jsonl(path) if path.exists() else []
  logged = [line for line in logged if line['step'] == step]
  lines = log.sample_lines(rollout.samples, rewards, step, len(logged))
  for line, logged_line in zip(lines, logged):
    ours = json.dumps([line[key] for key in COMPARED])
    theirs = json.dumps([logged_line[key] for key in COMPARED])
    if ours != theirs:
      raise errors.UserError(
        f'the recomputed sample {ours} is {theirs} in {path}: the run was made '
        'on another machine, with other versions of the software, with other '
        'files, or by a reward that is not a function of its arguments'
      )


def entropies(
  sampling: Sampling, params: dict, batch: dict[str, np.ndarray]
) -> np.ndarray:
  """The entropy_BL of the policy before each token of a batch."""
  cfg = programs.shard_config(sampling.placement, sampling.cfg)
  temperature = sampling.config.sample.temperature

  def entropy(params, rows):
    tokens_BL, pos_BL = rows['tokens_BL'], rows['pos_BL']
    args = params, cfg, tokens_BL, pos_BL, temperature
    return token_logprobs.logprobs(*args)[1]

  program = programs.rows_program(sampling.placement, entropy)
  return rollouts.logprobs(sampling, program, params, batch)
