"""Supervised fine-tuning on the responses of a file: cold start, the SFT after
rejection sampling, and distillation are this one stage (R1, B.4.2)."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from r1jax import (
  config as configs,
)
from r1jax import (
  convert,
  data,
  errors,
  fit,
  generate,
  hosts,
  losses,
  metrics,
  model,
  parallel,
  policy,
  spmd,
  tasks,
  train,
  turns,
)  # fmt: skip
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
  fit.check(c, place.rows)
  records = tasks.load(c.data, c.seed)
  params, cfg, words = policy.load(c.init, c.compute, c.scratch, c.seed)
  rows, learns = encode(words, records, c)
  policy.check_length(cfg, max(map(len, rows)))
  parallel.shardings(place, params)  # Refuses what the mesh cannot cut.
  hosts.agree(workdir, config=c, records=records)
  hosts.once(lambda: configs.claim(workdir, Config, config))
  if hosts.once((workdir / 'model').exists):
    print(f'{workdir} is finished: the model is in {workdir / "model"}')
    return

  tx = train.optimizer(c.optim, fit.steps(c, len(rows)))
  state = parallel.new_state(place, params, tx)
  del params

  def micro_batches(n_B):
    parts = batch([rows[n] for n in n_B], [learns[n] for n in n_B], c)
    return [part for _, part in parts], sum(len(rows[n]) for n in n_B)

  state, _ = fit.fit(
    c,
    metrics.Writer(workdir, hosts.index()),
    state,
    spmd.train_step(place, loss_fn(spmd.on(place, cfg)), tx),
    len(rows),
    micro_batches,
    lambda params, step: {},
  )
  params = parallel.get_state(state.params)
  hosts.once(lambda: convert.save(workdir / 'model', params, cfg, words))


def encode(words, records, c):
  """(rows of ids, which of them are learnt): prompt, response, end token. The
  policy's own tokens are learnt: not the prompt, nor a tool's results."""
  for record in records:
    if not isinstance(record.get('response'), str):
      raise errors.UserError(
        f'record {record["id"]} of {c.data} has no response to learn from'
      )
  prompts = generate.encode(words, records, c.prompt)
  rows, learns = [], []
  for record, ids in zip(records, prompts):
    response = record['response'].removeprefix(c.prompt.prefill)
    parts = turns.split_results(c.prompt, response)
    row, learn = list(ids), [False] * len(ids)
    for text, own in parts:
      more = words.encode(text)
      row += more
      learn += [own] * len(more)
    rows.append(row + [words.eos_ids[0]])
    learns.append(learn + [True])
    if len(rows[-1]) > c.max_len:
      raise errors.UserError(
        f'record {record["id"]} has {len(rows[-1])} tokens; config.max_len '
        f'allows {c.max_len}: raise it or drop the record'
      )
  return rows, learns


def batch(rows, learns, c):
  """[(which rows, arrays)] of a step: weights are 1 / all learnt tokens."""
  tokens_BL, mask_BL = data.pad_rows(rows, max(map(len, rows)))
  learn_BL, _ = data.pad_rows(learns, tokens_BL.shape[1])
  arrays = dict(
    tokens_BL=tokens_BL,
    pos_BL=np.where(mask_BL, np.arange(tokens_BL.shape[1]), -1).astype(
      np.int32
    ),
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
