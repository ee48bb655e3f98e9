"""Supervised fine-tuning on the responses of a file: cold start, the SFT after
rejection sampling, and distillation are this one stage (R1, B.4.2)."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time

import jax
import numpy as np

from r1jax import (
  checkpoint,
  convert,
  data,
  errors,
  generate,
  losses,
  metrics,
  model,
  parallel,
  policy,
  tasks,
  train,
)  # fmt: skip
from r1jax import (
  config as configs,
)
from r1jax.config import option


@dataclasses.dataclass(frozen=True)
class Config:
  init: str = option('scratch', "a model's directory, GGUF file or hub name")
  data: str = option('', 'records with prompt and response')
  steps: int = option(0, 'optimiser steps; 0: as the epochs say', least=0)
  epochs: int = option(2, 'passes over the data (R1: 2 to 3)', least=1)
  batch: int = option(128, 'rows a step (R1: 128, distillation 64)', least=1)
  micro: int = option(
    16, 'rows whose gradient is computed at one time', least=1
  )
  max_len: int = option(1024, 'most tokens of prompt and response', least=2)
  buckets: int = option(4, 'row lengths to pad to', least=1)
  seed: int = option(0, 'of the fresh weights, the data and its order', least=0)
  save_every: int = option(200, 'steps between checkpoints', least=1)
  keep: int = option(2, 'newest checkpoints that are kept', least=1)
  prompt: generate.PromptConfig = generate.PromptConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  scratch: policy.ScratchConfig = policy.ScratchConfig()
  optim: train.OptimConfig = train.OptimConfig(lr=5e-5, schedule='cosine')
  parallel: parallel.ParallelConfig = parallel.ParallelConfig()


def run(config, workdir):
  """Trains, and leaves the model in workdir/model as transformers opens it."""
  c = configs.build(Config, config)
  workdir = pathlib.Path(workdir)
  place = parallel.placement(c.parallel)
  if c.batch % c.micro or c.micro % place.rows:
    raise errors.UserError(
      f'config.micro is {c.micro}: it must divide config.batch ({c.batch}) and '
      f'be a multiple of the {place.rows} devices that share the rows'
    )
  records = tasks.load(c.data, c.seed)
  params, cfg, words = policy.load(c.init, c.compute, c.scratch, c.seed)
  rows, starts = encode(words, records, c)
  policy.check_length(cfg, max(map(len, rows)))
  steps = c.steps or max(1, c.epochs * len(rows) // c.batch)
  parallel.shardings(place, params)  # Refuses what the mesh cannot cut.
  configs.claim(workdir, Config, config)
  if (workdir / 'model').exists():
    print(f'{workdir} is finished: the model is in {workdir / "model"}')
    return

  tx = train.optimizer(c.optim, steps)
  step_fn = parallel.train_step(place, loss_fn(cfg), tx)
  state = parallel.put_state(place, train.new_state(params, tx))
  del params
  manager = checkpoint.open_manager(workdir / 'checkpoints', c.keep, best=0)
  found = checkpoint.restore(manager, state)
  state, first = (found[0], found[2]) if found else (state, 0)
  writer = metrics.Writer(workdir, jax.process_index())
  writer.rewind(first)
  started = time.time()
  with contextlib.ExitStack() as stack:
    stack.callback(writer.close)
    stack.callback(checkpoint.close, manager)
    for step in range(first + 1, steps + 1):
      began = time.time()
      index = data.prompt_indices(
        c.seed, (step - 1) * c.batch, c.batch, len(rows)
      )
      batches = [
        part for _, part in batch([rows[i] for i in index],
                                  [starts[i] for i in index], c)
      ]  # fmt: skip
      state, sums = step_fn(state, batches)
      sums = jax.device_get(sums)
      seconds = time.time() - began
      line = dict(
        step=step,
        loss=sums['loss'],
        grad_norm=sums['grad_norm'],
        lr=train.learning_rate(c.optim, steps)(step - 1),
        skipped=sums['skipped'],
        seconds=seconds,
        tokens_per_s=sum(len(rows[i]) for i in index) / seconds,
      )
      writer.write(line)
      train.stop_if_stuck(c.optim, sums['skipped'], step, steps)
      if step % max(1, steps // 20) == 0 or step == steps:
        print(metrics.progress(step, steps, line, started, first), flush=True)
      if step % c.save_every == 0 or step == steps:
        checkpoint.save(manager, step, state, {}, None)
  convert.save(workdir / 'model', jax.device_get(state.params), cfg, words)


def encode(words, records, c):
  """(rows of ids, where each response begins): prompt, response, end token."""
  for record in records:
    if not isinstance(record.get('response'), str):
      raise errors.UserError(
        f'record {record["id"]} of {c.data} has no response to learn from'
      )
  prompts = generate.encode(words, records, c.prompt)
  rows = []
  for record, ids in zip(records, prompts):
    response = record['response'].removeprefix(c.prompt.prefill)
    row = ids + words.encode(response) + [words.eos_ids[0]]
    if len(row) > c.max_len:
      raise errors.UserError(
        f'record {record["id"]} has {len(row)} tokens; config.max_len allows '
        f'{c.max_len}: raise it or drop the record'
      )
    rows.append(row)
  return rows, [len(ids) for ids in prompts]


def batch(rows, starts, c):
  """[(which rows, arrays)] of a step: weights are 1 / all response tokens."""
  tokens_BL, mask_BL = data.pad_rows(rows, max(map(len, rows)))
  column_L = np.arange(tokens_BL.shape[1])
  learn_BL = mask_BL & (column_L[None] >= np.array(starts)[:, None])
  arrays = dict(
    tokens_BL=tokens_BL,
    pos_BL=np.where(mask_BL, column_L[None], -1).astype(np.int32),
    weight_BL=(learn_BL / learn_BL.sum()).astype(np.float32),
  )
  return data.cut(arrays, c.micro, data.lengths(c.max_len, c.buckets))


def loss_fn(cfg):
  """Cross entropy of the response's tokens alone."""

  def fn(params, batch):
    logp_BL, _ = model.logprobs(
      params, cfg, batch['tokens_BL'], batch['pos_BL']
    )
    return losses.sft_loss(logp_BL, batch['weight_BL'])

  return fn
