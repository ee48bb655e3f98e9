"""Reinforcement learning by GRPO. R1-Zero, reasoning RL and all-scenario RL
(R1, sections 2 and 3) use this stage with different rewards."""

import contextlib
import dataclasses
import pathlib
import time
from concurrent.futures import Future

import jax
import ml_collections
import numpy as np

from r1jax.checkpoints import pretrained
from r1jax.distributed import device_placement, watchdog
from r1jax.evaluation import held_out
from r1jax.rewards.pending import Rewards
from r1jax.rl import (
  curriculum,
  grpo,
  log,
  micro_batches,
  rl_config,
  rl_run,
  saved_rollout,
  saving,
  setup,
)
from r1jax.rl.rl_run import Position, RlState, Run
from r1jax.rl.rollouts import (
  Rollout,
  make_batch,
  rewards_after_outage,
  sample_rollout,
)
from r1jax.training import (
  closing,
  memory_errors,
  optimizer,
  train_step,
)
from r1jax.training.config_changes import NO_CHANGE, Change

Config = rl_config.Config


def run(
  config: ml_collections.ConfigDict,
  workdir: str | pathlib.Path,
  change: Change = NO_CHANGE,
) -> None:
  """Trains and writes the model to workdir/model, a Hugging Face directory."""
  workdir, began = pathlib.Path(workdir), time.monotonic()
  with contextlib.ExitStack() as stack:
    opened = setup.open_run(stack, config, workdir, change)
    if opened is None:
      return
    run, state, position = opened
    first_step = position.step
    if run.config.eval.every and run.checkpoints.latest_step() is None:
      with saving.exit_early_if_saved(run, position):
        line = dict(step=0) | log.evaluate(run, state, 0)
      run.writer.write(line)
      print(base_line(run, line), flush=True)
    position = with_evaluation(run, state, position)
    state = train(run, state, position)
    model = state.train.params, run.sampling.cfg, run.sampling.tokenizer
    pretrained.save_result(workdir, *model, run.config.export_dtype)
  chat = closing.command('chat', workdir / 'model')
  following = {chat: 'talk to the model'}
  best = run.config.eval.best
  closing.show_training(workdir, began, first_step, following, best)


def with_evaluation(run: Run, state: RlState, position: Position) -> Position:
  """Evaluates the restored step if its evaluation is due and is missing, since
  SIGTERM or an error of the user's rewards ended it."""
  step, updates = position.step, run.config.grpo.updates
  is_due = log.crossed(run.config.eval.every, step - updates, step)
  if not step or position.score is not None or not is_due:
    return position
  with saving.exit_early_if_saved(run, position):
    line = dict(step=step) | log.evaluate(run, state, step)
  run.writer.write(line)
  score = held_out.score(run.config.eval, line)
  return dataclasses.replace(position, score=score)


def base_line(run: Run, line: dict) -> str:
  """What is printed about the policy before training."""
  temperature, group = run.config.sample.temperature, run.config.grpo.group_size
  return held_out.base_line(line, run.config.eval, group, temperature)


def train(run: Run, state: RlState, position: Position) -> RlState:
  """Runs steps until config.steps updates are done, and saves checkpoints."""
  rollout = None
  if run.config.grpo.max_staleness and position.step < run.config.steps:
    rollout = saved_rollout.read(run, position.step)
  while position.step < run.config.steps:
    if run.config.grpo.max_staleness:
      state, position, rollout = late_step(run, state, position, rollout)
    else:
      state, position = step(run, state, position)
    before = position.step - run.config.grpo.updates
    if log.crossed(run.config.save_every, before, position.step):
      saving.save(run, state, position, rollout)
    saving.end_if_terminating(run, state, position, rollout)
  saving.save(run, state, position)
  return state


def step(
  run: Run, state: RlState, position: Position
) -> tuple[RlState, Position]:
  """Samples a rollout with the newest policy and learns from it."""
  began = time.time()
  state, position = refresh_reference(run, state, position)
  with saving.saved_on_error(run, state, position):
    with saving.exit_early_if_saved(run, position):
      params, ref_params = rollout_params(run, state)
      rollout = sample_rollout(run.sampling, params, ref_params, position)
      # update() donates this state, so it cannot be saved later.
      saving.end_if_terminating(run, state, position)
    sampled = time.time()
    rewards = rewards_after_outage(run.sampling, rollout)
    run.unscored_rollouts.check(rewards)
    scored = time.time()
    batch = make_batch(run.config.grpo, rollout, rewards)
  state, lines = update(run, state, batch, position.step, rollout)
  seconds = {
    'time/rewards': scored - sampled,
    'time/update': time.time() - scored,
    'seconds': time.time() - began,
  }
  position = position_after(run.config, position, rollout, rewards, lines)
  with saving.saved_on_error(run, state, position):
    score = log.log_step(run, state, rollout, rewards, lines, seconds)
  return state, dataclasses.replace(position, score=score)


def late_step(
  run: Run, state: RlState, position: Position, rollout: Rollout | None
) -> tuple[RlState, Position, Rollout | None]:
  """Learns from a rollout while the next one is sampled (max_staleness=1).

  Returns the next rollout, or None after the last. `position` is that of the
  current rollout, which is saved with it.
  """
  began = time.time()
  state, position = refresh_reference(run, state, position)
  is_last = position.step + run.config.grpo.updates >= run.config.steps
  with saving.saved_on_error(run, state, position, rollout):
    with saving.exit_early_if_saved(run, position):
      params, ref_params = rollout_params(run, state)
      if rollout is None:
        rollout = sample_rollout(run.sampling, params, ref_params, position)
      next_rollout = None
      if not is_last:
        following = dataclasses.replace(
          position, next_prompt=rollout.next_prompt
        )
        next_rollout = start_rollout(run, params, ref_params, following)
      saving.end_if_terminating(run, state, position, rollout)
    sampled = time.time()
    rewards = rewards_after_outage(run.sampling, rollout)
    run.unscored_rollouts.check(rewards)
    scored = time.time()
    batch = make_batch(run.config.grpo, rollout, rewards)
  state, lines = update(run, state, batch, position.step, rollout)
  seconds = {
    'time/rewards': scored - sampled,
    'time/update': time.time() - scored,
  }
  position = position_after(run.config, position, rollout, rewards, lines)
  with saving.saved_on_error(run, state, position):
    if isinstance(next_rollout, Future):
      next_rollout = next_rollout.result()
  with saving.saved_on_error(run, state, position, next_rollout):
    seconds['seconds'] = time.time() - began
    if run.has_rollout_devices and next_rollout:
      seconds |= log.idle_shares(seconds, next_rollout)
    score = log.log_step(run, state, rollout, rewards, lines, seconds)
  return state, dataclasses.replace(position, score=score), next_rollout


def refresh_reference(
  run: Run, state: RlState, position: Position
) -> tuple[RlState, Position]:
  """Sets the reference to the policy every config.grpo.ref_every steps (R1)."""
  every = run.config.grpo.ref_every
  is_due = log.crossed(every, position.ref_step, position.step)
  if state.ref is None or not is_due:
    return state, position
  # A copy, since the update donates the policy's buffers.
  params = device_placement.copy(state.train.params)
  if run.has_rollout_devices:
    params = device_placement.put_state(run.sampling.placement, params)
  return (
    state.replace(ref=params),
    dataclasses.replace(position, ref_step=position.step),
  )


def rollout_params(run: Run, state: RlState) -> tuple[dict, dict | None]:
  """The policy's and the reference's parameters on the rollout devices."""
  ref_params = run.sampling.teacher_params if run.config.teacher else state.ref
  return rl_run.policy_params(run, state), ref_params


def start_rollout(
  run: Run, params: dict, ref_params: dict | None, position: Position
) -> Rollout | Future:
  """Samples a rollout: in a thread where rollouts have devices of their own."""
  args = run.sampling, params, ref_params, position
  if run.has_rollout_devices:
    return run.sampling.executor.submit(sample_rollout, *args)
  return sample_rollout(*args)


def update(
  run: Run,
  state: RlState,
  batch: dict[str, np.ndarray],
  step: int,
  rollout: Rollout,
) -> tuple[RlState, list[dict]]:
  """Updates the policy by a rollout, one mini-batch at a time. Returns the
  state and a line of metrics for each update. Donates the state."""
  config, lines = run.config, []
  cutting = rl_run.cutting(run.sampling, run.placement)
  packing = micro_batches.choose_packing(config.grpo, batch, cutting)
  learning_rate = optimizer.learning_rate(config.optim, config.steps)
  mini_batches = grpo.mini_batches(
    config.grpo, batch, (config.seed, step), rollout.max_new_tokens
  )
  for mini_batch in mini_batches:
    parts = micro_batches.cut(config.grpo, mini_batch, cutting, packing)
    with memory_errors.explained('update', config):
      train_state, sums = train_step.update(
        run.placement, run.updates, state.train, [part for _, part in parts]
      )
      sums = jax.device_get(sums)
    state = state.replace(train=train_state)
    watchdog.heartbeat()
    step += 1
    optimizer.stop_if_stuck(config.optim, sums['skipped'], step, config.steps)
    lines.append(
      dict(step=step, lr=learning_rate(step - 1))
      | dict(padding=micro_batches.padding([part for _, part in parts]))
      | grpo.update_metrics(config.grpo, sums)
    )
  return state, lines


def position_after(
  config: Config,
  position: Position,
  rollout: Rollout,
  rewards: Rewards,
  lines: list[dict],
) -> Position:
  """The position after the updates of a rollout, which have these lines."""
  found = rollout.success | curriculum.results(
    config.curriculum, rollout.samples.records, rewards
  )
  return dataclasses.replace(
    position,
    step=lines[-1]['step'],
    next_prompt=rollout.next_prompt,
    success=curriculum.updated(position.success, found),
    score=None,
  )
