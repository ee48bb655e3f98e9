"""Supervised fine-tuning on the responses of a file: cold start, the SFT after
rejection sampling, and distillation are this one stage (R1, B.4.2)."""

from __future__ import annotations

import dataclasses
import pathlib

import ml_collections
import numpy as np

from r1jax import config as configs
from r1jax import errors, losses
from r1jax.checkpoints import policy, pretrained
from r1jax.config import option
from r1jax.data import batching, tasks, templates
from r1jax.distributed import device_placement, hosts, programs
from r1jax.models import transformer
from r1jax.sampling import tool_calls
from r1jax.training import loop, metrics, optimizer, run_directory, train_step


@dataclasses.dataclass(frozen=True)
class Config:
  init: str = option('scratch', "a model's directory, GGUF file or hub name")
  data: str = option('', 'records with prompt and response')
  steps: int = option(0, 'optimiser steps; 0: as the epochs say', least=0)
  epochs: int = option(2, 'passes over the data (R1: 2 to 3)', least=1)
  batch_size: int = option(
    128, 'rows a step (R1: 128, distillation 64)', least=1
  )
  micro_batch_size: int = option(
    16, 'rows whose gradient is computed at one time', least=1
  )
  max_len: int = option(1024, 'most tokens of prompt and response', least=2)
  length_buckets: int = option(4, 'row lengths to pad to', least=1)
  seed: int = option(0, 'of the fresh weights, the data and its order', least=0)
  save_every: int = option(200, 'steps between checkpoints', least=1)
  keep: int = option(2, 'newest checkpoints that are kept', least=1)
  prompt: templates.PromptConfig = templates.PromptConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  scratch: policy.ScratchConfig = policy.ScratchConfig()
  optim: optimizer.OptimConfig = optimizer.OptimConfig(
    lr=5e-5, schedule='cosine'
  )
  parallel: device_placement.ParallelConfig = device_placement.ParallelConfig()


def run(config: ml_collections.ConfigDict, workdir: str | pathlib.Path) -> None:
  """Trains, and leaves the model in workdir/model as transformers opens it."""
  settings, config = config, configs.build(Config, config)
  workdir = pathlib.Path(workdir)
  placement = device_placement.placement(config.parallel)
  loop.check_batch_size(config, placement.num_shards)
  records = tasks.load_records(config.data, config.seed)
  params, cfg, tokenizer = policy.load(
    config.init, config.compute, config.scratch, config.seed
  )
  dataset = Dataset(config, *encode(tokenizer, records, config))
  policy.check_length(cfg, max(map(len, dataset.rows)))
  device_placement.shardings(placement, params)  # refuses an uneven mesh
  if run_directory.claim(workdir, Config, settings, 'model', records=records):
    return
  tx = optimizer.optimizer(
    config.optim, loop.num_steps(config, len(dataset.rows))
  )
  state = train_step.create_state(placement, params, tx)
  del params
  updates = train_step.update_programs(
    placement, make_loss(programs.shard_config(placement, cfg)), tx
  )
  writer = metrics.Writer(workdir, hosts.index())
  state, _ = loop.fit(config, placement, updates, writer, state, dataset)
  params = device_placement.get_state(state.params)
  hosts.run_once(
    lambda: pretrained.save(workdir / 'model', params, cfg, tokenizer)
  )


@dataclasses.dataclass(frozen=True)
class Dataset:
  """What loop.fit learns from: rows of ids, and which ids are learnt."""

  config: Config
  rows: list[list[int]]
  learnt: list[list[bool]]

  @property
  def size(self) -> int:
    return len(self.rows)

  def micro_batches(self, index_B: np.ndarray) -> tuple[list[dict], int]:
    """(the micro-batches of these records, their number of tokens)."""
    rows = [self.rows[n] for n in index_B]
    parts = batch(rows, [self.learnt[n] for n in index_B], self.config)
    return [part for _, part in parts], sum(map(len, rows))

  def evaluate(self, params: dict, step: int) -> dict[str, float]:
    """Nothing is held out."""
    return {}


def encode(words, records, c):
  """(rows of ids, which of them are learnt): prompt, response, end token. The
  policy's own tokens are learnt: not the prompt, nor a tool's results."""
  for record in records:
    if not isinstance(record.get('response'), str):
      raise errors.UserError(
        f'record {record["id"]} of {c.data} has no response to learn from'
      )
  prompts = templates.encode_prompts(words, records, c.prompt)
  rows, learns = [], []
  for record, ids in zip(records, prompts):
    response = record['response'].removeprefix(c.prompt.prefill)
    parts = tool_calls.split_results(c.prompt, response)
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
  tokens_BL, mask_BL = batching.pad_rows(rows, max(map(len, rows)))
  learn_BL, _ = batching.pad_rows(learns, tokens_BL.shape[1])
  arrays = dict(
    tokens_BL=tokens_BL,
    pos_BL=np.where(mask_BL, np.arange(tokens_BL.shape[1]), -1).astype(
      np.int32
    ),
    weight_BL=(learn_BL / learn_BL.sum()).astype(np.float32),
  )
  return batching.cut(
    arrays, c.micro_batch_size, batching.lengths(c.max_len, c.length_buckets)
  )


def make_loss(cfg):
  """Cross entropy of the response's tokens alone."""

  def fn(params, batch):
    logp_BL, _ = transformer.logprobs(
      params, cfg, batch['tokens_BL'], batch['pos_BL']
    )
    return losses.sft_loss(logp_BL, batch['weight_BL'])

  return fn
