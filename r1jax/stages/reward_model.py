"""Reward models: a policy with a score head, trained on pairs (helpfulness) or
on labelled responses (harmlessness) (R1, 3.1 and B.3.1)."""

import functools
import time
from pathlib import Path

import jax
import ml_collections

from r1jax import losses
from r1jax.checkpoints import policy, pretrained
from r1jax.data import mixture
from r1jax.distributed import device_placement, programs
from r1jax.models import transformer
from r1jax.rewards import reward_model
from r1jax.sampling import loading
from r1jax.supervised import reward_model_config, reward_model_rows
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

Config = reward_model_config.Config


def run(
  settings: ml_collections.ConfigDict,
  workdir: str | Path,
  change: Change = NO_CHANGE,
) -> None:
  """Trains, and writes the reward model to workdir/model, for transformers and
  for config.reward_models of the rl stage."""
  workdir, began = Path(workdir), time.monotonic()
  directory = run_directory.open_directory(workdir, Config, settings, change)
  config = directory.config
  reward_model_config.check(config)
  placement = device_placement.placement(config.parallel)
  loop.check_batch_size(config, placement.num_shards)
  records, held_out = reward_model_config.load_records(config)
  params, cfg, tokenizer = policy.load_with_tokenizer(
    config.init, config.compute
  )
  if not cfg.score:
    params, cfg = transformer.with_score(params, cfg)
  source = mixture.name_of(config.data, config.data_mix)
  records, rows = reward_model_rows.encode_good(
    tokenizer, records, config, source
  )
  held_out, held_out_rows = reward_model_rows.encode_good(
    tokenizer, held_out, config, config.eval_data or source
  )
  longest = max(map(reward_model_rows.longest, (rows, held_out_rows)))
  loading.check_policy(placement, params, cfg, longest)
  steps = loop.num_steps(config, len(rows))
  read = records + held_out
  if not directory.progress:
    # Before the run has the directory: its weights may be damaged.
    with memory_errors.explained('loading of the model', config):
      params = device_placement.put_state(placement, params)
  claimed = run_directory.claim(directory, 'model', read, steps)
  if claimed is None:
    return
  optimizer.check_router_bias(config.optim, {})  # the loss counts no load
  tx = optimizer.optimizer(config.optim, steps)
  shard_cfg = programs.shard_config(placement, cfg)
  loss_fn = functools.partial(loss, shard_cfg, config.kind)
  updates = train_step.update_programs(placement, loss_fn, tx)
  dataset = reward_model_rows.Dataset(
    config=config,
    placement=placement,
    records=records,
    rows=rows,
    held_out_rows=held_out_rows,
    scores_program=reward_model.scores_program(placement, cfg),
  )
  writer = metrics.Writer(workdir, config)
  state, found = loop.fit(
    claimed, placement, updates, writer, params, tx, dataset
  )
  facts = dict(
    kind=config.kind,
    part=config.part,
    template=config.prompt.template,
    prefill=config.prompt.prefill,
    max_len=config.max_len,
  )
  record = claimed.record
  if record and record.date:  # A template has asked for it.
    facts['date'] = record.date
  if config.prompt.system:
    facts['system'] = config.prompt.system
  facts |= {name.removeprefix('eval/'): x for name, x in found.items()}
  pretrained.save_result(
    workdir, state.params, cfg, tokenizer, config.export_dtype, facts
  )
  name = 'helpful' if config.kind == 'pairwise' else 'harmless'
  key = f'--config.reward_models.{name}={workdir / "model"}'
  weight = f'--config.rewards.{name}=1.0'
  use = closing.command('rl', '--config', 'FILE', key, weight)
  following = {use: 'train with this reward'}
  closing.show_training(
    workdir, began, claimed.progress, following, config.eval_best
  )


def loss(
  cfg: transformer.ModelConfig, kind: str, params: dict, batch: dict
) -> tuple[jax.Array, losses.Metrics]:
  """The Bradley-Terry loss of pairs, or the cross entropy of responses."""
  B, G, L = batch['tokens_BGL'].shape
  tokens_BL = batch['tokens_BGL'].reshape(-1, L)
  pos_BL, weight_B = batch['pos_BGL'].reshape(-1, L), batch['weight_B']
  score_BG = transformer.scores(params, cfg, tokens_BL, pos_BL).reshape(B, G)
  if kind == 'pairwise':
    return losses.preference_loss(score_BG[:, 0], score_BG[:, 1], weight_B)
  return losses.pointwise_loss(score_BG[:, 0], batch['label_B'], weight_B)
