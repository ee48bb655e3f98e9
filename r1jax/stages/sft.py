"""Supervised fine-tuning on the responses of a file: cold start, the SFT after
rejection sampling, and distillation (R1, B.4.2)."""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Literal

import jax
import ml_collections
import numpy as np

from r1jax import errors, losses, memory_errors
from r1jax.checkpoints import policy, pretrained
from r1jax.config import MAX_SEED, option
from r1jax.data import batching, mixture, sequences, templates
from r1jax.data.bad_records import BadRecords, TooLong
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.distributed import device_placement, programs
from r1jax.models import moe, transformer
from r1jax.sampling import loading, tool_calls
from r1jax.training import (
  closing,
  loop,
  metrics,
  optimizer,
  run_directory,
  train_step,
)
from r1jax.training.config_changes import NO_CHANGE, Change
from r1jax.training.trackers import registry


@dataclasses.dataclass(frozen=True)
class Config:
  """The config of the sft stage."""

  init: str = option(
    'scratch',
    "a model's directory, GGUF file or hub name",
    fixed='model',
    reads='model',
  )
  data: str = option(
    '',
    'records with prompt and response',
    is_code=True,
    fixed='data',
    reads='records',
  )
  data_map: dict[str, str] = option(
    {}, "columns of data, e.g. {'response': 'output'}", fixed='data'
  )
  data_mix: dict[str, float] = option(
    {},
    'in place of data: shares of the batches by source',
    is_code=True,
    fixed='data',
    reads='records',
  )
  skip_bad_records: bool = option(
    False,
    'leave out, and count, records that cannot be used',
    fixed='data',
  )
  drop_too_long: bool = option(
    False, 'leave out, and count, records that are too long', fixed='data'
  )
  steps: int = option(0, 'optimiser steps; 0: computed from epochs', minimum=0)
  epochs: int = option(2, 'passes over the data (R1: 2 to 3)', minimum=1)
  batch_size: int = option(
    128, 'rows a step (R1: 128, distill: 64)', minimum=1, fixed='batch'
  )
  micro_batch_size: int = option(
    16, 'rows of one gradient', minimum=1, is_free=True
  )
  tokens_per_micro_batch: int = option(
    0,
    'tokens of one gradient, of rows without padding; 0: rows',
    minimum=0,
    is_free=True,
  )
  mtp_coef: float = option(
    0.0, 'weight of the loss of multi-token prediction (lambda)', minimum=0
  )
  max_len: int = option(1024, 'max tokens of prompt and response', minimum=2)
  length_buckets: int = option(
    4, 'number of row lengths to pad to', minimum=1, is_free=True
  )
  seed: int = option(
    0,
    'of fresh weights and the order of records',
    minimum=0,
    maximum=MAX_SEED,
    fixed='seed',
  )
  log_every: int = option(
    0, 'steps between printed lines; 0: about 20', minimum=0, is_free=True
  )
  trackers: tuple[str, ...] = option(
    registry.DEFAULT, registry.HELP, is_free=True
  )
  save_every: int = option(
    200, 'steps between checkpoints', minimum=1, is_free=True
  )
  keep: int = option(
    2, 'number of newest checkpoints to keep', minimum=1, is_free=True
  )
  export_dtype: Literal['auto', 'float32', 'bfloat16'] = option(
    'auto',
    'of the written model: float32, bfloat16, auto: bfloat16 if init has it',
    is_free=True,
  )
  prompt: templates.PromptConfig = templates.PromptConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  scratch: policy.ScratchConfig = policy.ScratchConfig()
  optim: optimizer.OptimConfig = optimizer.OptimConfig(
    lr=5e-5, schedule='cosine'
  )
  parallel: device_placement.ParallelConfig = device_placement.ParallelConfig()


@dataclasses.dataclass(frozen=True)
class Dataset:
  """What loop.fit trains on: rows of ids, and masks of those to learn."""

  config: Config
  records: list[dict]  # of the rows
  rows: list[list[int]]
  masks: list[list[bool]]
  num_shards: int = 1  # that have equal parts of a micro-batch

  def micro_batches(self, index_B: np.ndarray) -> tuple[list[dict], int, float]:
    """(the micro-batches of these records, their number of tokens, the share of
    padding). The weight of a token is its mask / the number of tokens to learn in
    the batch."""
    rows = [self.rows[n] for n in index_B]
    tokens_BL, valid_BL = batching.pad_rows(rows, max(map(len, rows)))
    length = tokens_BL.shape[1]
    mask_BL, _ = batching.pad_rows([self.masks[n] for n in index_B], length)
    arrays = dict(
      tokens_BL=tokens_BL,
      pos_BL=np.where(valid_BL, np.arange(length), -1).astype(np.int32),
      weight_BL=(mask_BL / mask_BL.sum()).astype(np.float32),
    )
    parts = self._cut(arrays)
    tokens = sum(map(len, rows))
    computed = sum(part['tokens_BL'].size for part in parts)
    return parts, tokens, 1 - tokens / computed

  def _cut(self, arrays):
    """The micro-batches: with config.tokens_per_micro_batch of packed rows."""
    config, shards = self.config, self.num_shards
    if not config.tokens_per_micro_batch:
      widths = batching.lengths(config.max_len, config.length_buckets)
      parts = batching.cut(arrays, config.micro_batch_size, widths)
      return [part for _, part in parts]
    longest = max(map(len, self.rows))
    widths = batching.lengths(longest, config.length_buckets)
    layouts = sequences.layouts(
      sequences.unshared((arrays['pos_BL'] >= 0).sum(axis=1)),
      config.tokens_per_micro_batch,
      shards,
      widths,
    )
    return [sequences.packed(arrays, layout, shards) for layout in layouts]

  def evaluate(self, params: dict, step: int) -> dict[str, float]:
    return {}  # There are no held-out records.


def run(
  settings: ml_collections.ConfigDict,
  workdir: str | Path,
  change: Change = NO_CHANGE,
) -> None:
  """Trains and writes the model to workdir/model, a Hugging Face directory."""
  workdir, began = Path(workdir), time.monotonic()
  directory = run_directory.open_directory(workdir, Config, settings, change)
  config = directory.config
  registry.check(config.trackers)
  placement = device_placement.placement(config.parallel)
  if not config.tokens_per_micro_batch:
    loop.check_batch_size(config, placement.num_shards)
  bad = BadRecords(config.skip_bad_records, drop_too_long=config.drop_too_long)
  records = mixture.load_records(
    config.data, config.data_mix, config.seed, bad, config.data_map
  )
  with memory_errors.explained('loading of the model', config):
    params, cfg, tokenizer = policy.load(
      config.init, config.compute, config.scratch, config.seed
    )
  dataset = encode(tokenizer, records, config, bad)
  dataset = dataclasses.replace(dataset, num_shards=placement.num_shards)
  longest = max(map(len, dataset.rows))
  loading.check_policy(placement, params, cfg, longest)
  tokens = config.tokens_per_micro_batch
  if tokens:
    sequences.check_tokens(tokens, placement.num_shards, longest)
  steps = loop.num_steps(config, len(dataset.rows))
  if not directory.progress:
    # Before the run has the directory: its weights may be damaged.
    with memory_errors.explained('loading of the model', config):
      params = device_placement.put_state(placement, params)
  claimed = run_directory.claim(directory, 'model', dataset.records, steps)
  if claimed is None:
    return
  optimizer.check_router_bias(config.optim, params)
  policy.check_mtp(cfg, config.mtp_coef, 'config.mtp_coef')
  tx = optimizer.optimizer(config.optim, steps)
  cfg_on_device = programs.shard_config(placement, cfg)
  cfg_on_device = dataclasses.replace(
    cfg_on_device, sequence_packing=bool(tokens)
  )
  loss_fn = functools.partial(loss, cfg_on_device, mtp_coef=config.mtp_coef)
  updates = train_step.update_programs(
    placement, loss_fn, tx, config.optim.router_bias_rate
  )
  writer = metrics.Writer(workdir, config)
  state, _ = loop.fit(claimed, placement, updates, writer, params, tx, dataset)
  pretrained.save_result(
    workdir, state.params, cfg, tokenizer, config.export_dtype
  )
  chat = closing.command('chat', workdir / 'model')
  following = {chat: 'talk to the model'}
  closing.show_training(workdir, began, claimed.progress, following)


def encode(
  tokenizer: Tokenizer,
  records: list,
  config: Config,
  bad: BadRecords | None = None,
) -> Dataset:
  """Rows of prompt, response and end token. The mask is True for what a policy
  would sample: the response without the results of tools, and the end. Raises
  UserError for records that cannot be used, with those in `bad`, or leaves them
  out."""
  bad = bad or BadRecords(
    config.skip_bad_records, drop_too_long=config.drop_too_long
  )
  kept, rows, masks = [], [], []
  source = mixture.name_of(config.data, config.data_mix)
  for record in records:
    if not isinstance(record.get('response'), str):
      bad.note(
        record['id'],
        f'record {record["id"]} of {source} has no response to train on '
        f'(its keys are {", ".join(record)})',
      )
      continue
    with bad.noted(record['id']):
      made = templates.make_prompt(tokenizer, record, config.prompt)
      row, mask = _encode_record(tokenizer, record, made, config)
      kept.append(record)
      rows.append(row)
      masks.append(mask)
  bad.finish(len(kept), source)
  return Dataset(config=config, records=kept, rows=rows, masks=masks)


def _encode_record(tokenizer, record, made, config):
  """(ids, mask) of a record whose prompt is made."""
  row = list(tokenizer.encode(made.full_text))
  templates.check_length(record, row, config.prompt.max_len)
  mask = [False] * len(row)
  response = templates.without_end(tokenizer, record['response'])
  response = templates.without_opening(response, made.opening)
  if '<think>' in made.opening and response.lstrip().startswith('<think>'):
    raise errors.UserError(
      f'the response of record {record["id"]} begins with <think>, but its '
      f'prompt ends with {made.opening!r}: use a prompt template that does not '
      'open the thinking, or a prefill that agrees with the responses'
    )
  for text, is_sampled in tool_calls.split_results(config.prompt, response):
    ids = tokenizer.encode(text)
    row += ids
    mask += [is_sampled] * len(ids)
  row, mask = [*row, tokenizer.eos_ids[0]], [*mask, True]
  if len(row) > config.max_len:
    raise TooLong(
      f'record {record["id"]} has {len(row)} tokens; config.max_len '
      f'allows {config.max_len}: raise it or drop the record'
    )
  return row, mask


def loss(
  cfg: transformer.ModelConfig,
  params: dict,
  batch: dict,
  mtp_coef: float = 0.0,
) -> tuple[jax.Array, losses.Metrics]:
  """The cross entropy of the weighted tokens of a batch, plus mtp_coef times
  that of the module of multi-token prediction."""
  tokens_BL, pos_BL = batch['tokens_BL'], batch['pos_BL']
  weight_BL = batch['weight_BL']
  out = transformer.logprobs_and_routing(params, cfg, tokens_BL, pos_BL)
  total, sums = losses.sft_loss(out.logp_BL, weight_BL)
  if mtp_coef:
    logp_BL = transformer.mtp_logprobs(
      params, cfg, out.hidden_BLD, tokens_BL, pos_BL
    )
    mtp_loss = losses.sft_loss(logp_BL, weight_BL)[0]
    total += mtp_coef * mtp_loss
    sums |= dict(mtp_loss=mtp_loss)
  return total, sums | moe.load_sums(cfg, out.routing, pos_BL)
