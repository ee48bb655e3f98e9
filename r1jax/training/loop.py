"""The loop of the stages that learn from a file: one update a step, written
down, saved, and gone on with after a kill."""

import contextlib
import time
from typing import Any, Protocol

import jax
import numpy as np

from r1jax import errors
from r1jax.data import record_files
from r1jax.distributed import hosts, watchdog
from r1jax.distributed.device_placement import Placement
from r1jax.training import checkpoint, metrics, optimizer, train_step
from r1jax.training.train_step import TrainState


def check_batch_size(c, shards):
  """Refuses batches that cannot be cut."""
  if c.batch_size % c.micro_batch_size or c.micro_batch_size % shards:
    raise errors.UserError(
      f'config.micro_batch_size is {c.micro_batch_size}: it must divide config.batch_size ({c.batch_size}) and '
      f'be a multiple of the {shards} devices that share the rows'
    )


def num_steps(c, size):
  """The optimiser steps of a run over `size` records."""
  return c.steps or max(1, c.epochs * size // c.batch_size)


class Dataset(Protocol):
  """What a stage learns from."""

  @property
  def size(self) -> int: ...

  def micro_batches(self, index_B: np.ndarray) -> tuple[list[dict], int]:
    """(the micro-batches of these records, their number of tokens)."""

  def evaluate(self, params: dict, step: int) -> dict[str, float]:
    """Metrics for the line of the step; may be empty."""


def fit(
  config: Any,
  placement: Placement,
  updates: train_step.UpdatePrograms,
  writer: metrics.Writer,
  state: TrainState,
  dataset: Dataset,
) -> tuple[TrainState, dict[str, float]]:
  """(the state after the last step, what evaluate gave for it).

  Resumes from the newest checkpoint below the writer's folder. The state is
  used up. config is that of a stage.
  """
  checkpoints = checkpoint.open_manager(
    writer.folder / 'checkpoints', config.keep, best=0
  )
  restored = checkpoint.restore(checkpoints, state)
  scores: dict[str, float] = {}
  first_step = 0
  if restored:
    # The caller's name for it would keep the fresh state beside the restored.
    jax.tree.map(lambda a: a.delete(), state)
    state, scores, first_step = restored
  last_step, started = num_steps(config, dataset.size), time.time()
  learning_rate = optimizer.learning_rate(config.optim, last_step)
  writer.rewind(first_step)
  with contextlib.ExitStack() as stack:
    stack.callback(writer.close)
    stack.callback(checkpoint.close, checkpoints)
    for step in range(first_step + 1, last_step + 1):
      began = time.time()
      index_B = record_files.prompt_indices(
        config.seed,
        (step - 1) * config.batch_size,
        config.batch_size,
        dataset.size,
      )
      micro_batches, tokens = dataset.micro_batches(index_B)
      state, sums = train_step.update(placement, updates, state, micro_batches)
      line = dict(step=step) | _means(jax.device_get(sums))
      line |= dict(lr=learning_rate(step - 1), seconds=time.time() - began)
      line |= dict(tokens_per_s=tokens / line['seconds'])
      watchdog.heartbeat()
      scores = dataset.evaluate(state.params, step)
      writer.write(line | scores)
      optimizer.stop_if_stuck(config.optim, line['skipped'], step, last_step)
      if step % max(1, last_step // 20) == 0 or step == last_step:
        print(
          metrics.progress_line(step, last_step, line, started, first_step),
          flush=True,
        )
      terminating = hosts.terminate_requested() and step < last_step
      if step % config.save_every == 0 or step == last_step or terminating:
        checkpoint.save(checkpoints, step, state, scores, None)
      if terminating:
        raise errors.Terminated
  return state, scores


def _means(sums):
  """Sums of w x over the sum of w; what is no sum stays as it is."""
  sums = dict(sums)
  whole = sums.pop('weight')
  as_is = {name: sums.pop(name) for name in ('grad_norm', 'skipped')}
  return {name: x / whole for name, x in sums.items()} | as_is
