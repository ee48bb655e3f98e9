"""The training loop of the stages that learn from a file (sft, reward_model):
one update a step, with metrics and checkpoints."""

import contextlib
import math
import time
from typing import Any

import jax

from r1jax import errors
from r1jax.data import mixture
from r1jax.distributed import device_placement, hosts, watchdog
from r1jax.distributed.device_placement import Placement
from r1jax.models import moe
from r1jax.training import (
  checkpoint,
  memory_errors,
  metrics,
  optimizer,
  run_directory,
  train_step,
)
from r1jax.training.progress import Progress
from r1jax.training.run_directory import RunDirectory
from r1jax.training.train_step import TrainState, UpdatePrograms

NOT_SUMS = 'grad_norm', 'skipped'


def check_batch_size(config: Any, num_shards: int) -> None:
  """Raises UserError if the batches cannot be divided among the devices."""
  rows = config.micro_batch_size
  if config.batch_size % rows or rows % num_shards:
    raise errors.UserError(
      f'config.micro_batch_size is {rows}: it must divide config.batch_size '
      f'({config.batch_size}) and be a multiple of the {num_shards} data shards'
    )


def num_steps(config: Any, size: int) -> int:
  """The optimiser steps of a run over `size` records."""
  return config.steps or max(1, config.epochs * size // config.batch_size)


def fit(
  directory: RunDirectory,
  placement: Placement,
  updates: UpdatePrograms,
  writer: metrics.Writer,
  params: train_step.Params,
  tx: train_step.Optimizer,
  dataset: Any,
) -> tuple[TrainState, dict[str, float]]:
  """Trains to the last step, from `params` or the newest checkpoint. Returns the
  state and its metrics. Donates the params, which may be unread, and closes the
  writer. On SIGTERM it saves and raises Terminated. The dataset has `records`,
  evaluate(params, step, steps) -> metrics or none, score(metrics) -> by what
  config.best checkpoints are kept, and micro_batches(index_B) -> (batches, their
  number of tokens, the share of padding)."""
  config = directory.config
  size, B = len(dataset.records), config.batch_size
  number_of = mixture.groups(dataset.records, config.data_mix)
  steps = num_steps(config, size)
  learning_rate = optimizer.learning_rate(config.optim, steps)
  with contextlib.ExitStack() as stack:
    stack.callback(writer.close)
    folder = writer.folder / 'checkpoints'
    checkpoints = checkpoint.open_manager(folder, config.keep, config.best)
    stack.callback(checkpoint.close, checkpoints)
    scores: dict[str, float] = {}
    with memory_errors.explained('loading of the model', config):
      if checkpoints.latest_step() is not None:
        params = device_placement.put_zeros(placement, params)  # to be restored
      state = train_step.create_state(placement, params, tx)
      del params
      first_step, restored = 0, checkpoint.restore(checkpoints, state)
    if restored:
      state, scores, first_step = restored
    run_directory.record_changes(directory, first_step)
    writer.rewind(first_step if restored else -1)
    metrics_file = writer.folder / 'metrics.jsonl'
    progress = Progress(
      steps, first_step, config.log_every, metrics_file=metrics_file
    )
    stack.callback(progress.close)
    if not scores:  # before the first step, or after SIGTERM
      with memory_errors.explained('evaluation', config):
        scores = dataset.evaluate(state.params, first_step, steps)
      if scores:
        writer.write(dict(step=first_step) | scores)
    for step in range(first_step + 1, steps + 1):
      began = time.time()
      first = (step - 1) * B
      index_B = mixture.indices(
        number_of, config.data_mix, config.seed, first, B
      )
      batches, tokens, padding = dataset.micro_batches(index_B)
      with memory_errors.explained('update', config):
        state, sums = train_step.update(placement, updates, state, batches)
        sums = jax.device_get(sums)
      weight = sums.pop('weight')
      means = {}
      for name, total in sums.items():
        if name != moe.LOAD:
          means[name] = total if name in NOT_SUMS else total / weight
      seconds = time.time() - began
      speed = dict(seconds=seconds, tokens_per_s=tokens / seconds)
      means |= moe.load_metrics(sums)
      means |= dict(lr=learning_rate(step - 1), padding=padding)
      line = dict(step=step) | means | speed
      watchdog.heartbeat()
      scores = {}
      try:
        with memory_errors.explained('evaluation', config):
          scores = dataset.evaluate(state.params, step, steps)
      except errors.Terminated:
        checkpoint.save(checkpoints, step, state, {}, None)
        raise
      finally:
        writer.write(line | scores)
      optimizer.stop_if_stuck(config.optim, line['skipped'], step, steps)
      progress.show(step, line | scores)
      terminating = hosts.terminate_requested() and step < steps
      if step % config.save_every == 0 or step == steps or terminating:
        score = dataset.score(scores)
        is_judged = score is not None and math.isfinite(score)
        checkpoint.save(
          checkpoints, step, state, scores, score if is_judged else None
        )
      if terminating:
        raise errors.Terminated
  return state, scores
