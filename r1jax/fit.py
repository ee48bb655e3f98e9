"""The loop of the stages that learn from a file: one update a step, written
down, saved, and gone on with after a kill."""

import contextlib
import time

import jax

from r1jax import checkpoint, data, errors, hosts, metrics, train, watch


def check(c, shards):
  """Refuses batches that cannot be cut."""
  if c.batch % c.micro or c.micro % shards:
    raise errors.UserError(
      f'config.micro is {c.micro}: it must divide config.batch ({c.batch}) and '
      f'be a multiple of the {shards} devices that share the rows'
    )


def steps(c, size):
  """The optimiser steps of a run over `size` records."""
  return c.steps or max(1, c.epochs * size // c.batch)


def fit(c, writer, state, update, size, batch, evaluate):
  """(the state after the last step, what evaluate said of it).

  The state is used up. update(state, micro-batches) -> (state, sums);
  batch(n_B) -> (micro-batches of these records, their tokens);
  evaluate(params, step) -> {name: number} for the line of the step. c is the
  config of a stage.
  """
  manager = checkpoint.open_manager(
    writer.folder / 'checkpoints', c.keep, best=0
  )
  found = checkpoint.restore(manager, state)
  facts, first = {}, 0
  if found:
    # The caller's name for it would keep the fresh state beside the restored.
    jax.tree.map(lambda a: a.delete(), state)
    state, facts, first = found
  last, started = steps(c, size), time.time()
  rate = train.learning_rate(c.optim, last)
  writer.rewind(first)
  with contextlib.ExitStack() as stack:
    stack.callback(writer.close)
    stack.callback(checkpoint.close, manager)
    for step in range(first + 1, last + 1):
      began = time.time()
      n_B = data.prompt_indices(c.seed, (step - 1) * c.batch, c.batch, size)
      micro_batches, tokens = batch(n_B)
      state, sums = update(state, micro_batches)
      line = dict(step=step) | _means(jax.device_get(sums))
      line |= dict(lr=rate(step - 1), seconds=time.time() - began)
      line |= dict(tokens_per_s=tokens / line['seconds'])
      watch.beat()
      facts = evaluate(state.params, step)
      writer.write(line | facts)
      train.stop_if_stuck(c.optim, line['skipped'], step, last)
      if step % max(1, last // 20) == 0 or step == last:
        print(metrics.progress(step, last, line, started, first), flush=True)
      told = hosts.told() and step < last
      if step % c.save_every == 0 or step == last or told:
        checkpoint.save(manager, step, state, facts, None)
      if told:
        raise errors.ToldToEnd
  return state, facts


def _means(sums):
  """Sums of w x over the sum of w; what is no sum stays as it is."""
  sums = dict(sums)
  whole = sums.pop('weight')
  as_is = {name: sums.pop(name) for name in ('grad_norm', 'skipped')}
  return {name: x / whole for name, x in sums.items()} | as_is
