"""Supervised fine-tuning on the responses of a file: cold start, the SFT after
rejection sampling, and distillation (R1, B.4.2)."""

import dataclasses
import functools
import time
from pathlib import Path

import jax
import ml_collections

from r1jax import losses
from r1jax.checkpoints import policy, pretrained
from r1jax.data import mixture, sequences
from r1jax.data.bad_records import BadRecords
from r1jax.distributed import device_placement, programs
from r1jax.models import moe, token_logprobs, transformer
from r1jax.sampling import loading
from r1jax.supervised import sft_config, sft_rows
from r1jax.training import (
  closing,
  loop,
  memory_errors,
  metrics,
  optimizer,
  run_directory,
  train_step,
)
from r1jax.training.config_changes import NO_CHANGE, Change

Config = sft_config.Config


def run(
  settings: ml_collections.ConfigDict,
  workdir: str | Path,
  change: Change = NO_CHANGE,
) -> None:
  """Trains and writes the model to workdir/model, a Hugging Face directory."""
  workdir, began = Path(workdir), time.monotonic()
  directory = run_directory.open_directory(workdir, Config, settings, change)
  config = directory.config
  sft_config.check(config)
  placement = device_placement.placement(config.parallel)
  if not config.tokens_per_micro_batch:
    loop.check_batch_size(config, placement.num_shards)
  bad, held_out_bad = _bad_records(config), _bad_records(config)
  records, held_out_records = sft_config.load_records(config, bad, held_out_bad)
  with memory_errors.explained('loading of the model', config):
    params, cfg, tokenizer = policy.load(
      config.init, config.compute, config.scratch, config.seed
    )
  source = mixture.name_of(config.data, config.data_mix)
  rows = sft_rows.encode(tokenizer, records, config, source, bad)
  dataset = sft_rows.Dataset(
    config=config, rows=rows, num_shards=placement.num_shards
  )
  longest, read = rows.longest, rows.records
  if config.eval.has_records:
    rows = sft_rows.encode(
      tokenizer,
      held_out_records,
      config,
      config.eval.data or source,
      held_out_bad,
    )
    program = sft_rows.loss_program(placement, cfg)
    held_out = sft_rows.HeldOut(rows, placement, program)
    dataset = dataclasses.replace(dataset, held_out=held_out)
    longest, read = max(longest, rows.longest), read + rows.records
  loading.check_policy(placement, params, cfg, longest)
  tokens = config.tokens_per_micro_batch
  if tokens:
    sequences.check_tokens(tokens, placement.num_shards, longest)
  steps = loop.num_steps(config, len(dataset.records))
  if not directory.progress:
    # Before the run has the directory: its weights may be damaged.
    with memory_errors.explained('loading of the model', config):
      params = device_placement.put_state(placement, params)
  claimed = run_directory.claim(directory, 'model', read, steps)
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
  closing.show_training(
    workdir, began, claimed.progress, following, config.eval.best
  )


def _bad_records(config):
  return BadRecords(config.skip_bad_records, drop_too_long=config.drop_too_long)


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
  out = token_logprobs.logprobs_and_routing(params, cfg, tokens_BL, pos_BL)
  total, sums = losses.sft_loss(out.logp_BL, weight_BL)
  if mtp_coef:
    logp_BL = token_logprobs.mtp_logprobs(
      params, cfg, out.hidden_BLD, tokens_BL, pos_BL
    )
    mtp_loss = losses.sft_loss(logp_BL, weight_BL)[0]
    total += mtp_coef * mtp_loss
    sums |= dict(mtp_loss=mtp_loss)
  return total, sums | moe.load_sums(cfg, out.routing, pos_BL)
