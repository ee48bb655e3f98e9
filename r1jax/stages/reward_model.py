"""Reward models: a policy with a score head, trained on pairs (helpfulness) or
on labelled responses (harmlessness) (R1, 3.1 and B.3.1)."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import jax
import ml_collections
import numpy as np

from r1jax import errors, losses, memory_errors
from r1jax.checkpoints import policy, pretrained
from r1jax.config import MAX_SEED, option
from r1jax.data import batching, mixture, record_files, templates
from r1jax.data.bad_records import BadRecords, TooLong
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.distributed import device_placement, programs
from r1jax.evaluation import statistics
from r1jax.models import transformer
from r1jax.rewards import reward_model
from r1jax.sampling import loading
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

# The keys of a record's responses.
RESPONSES = dict(pairwise=('chosen', 'rejected'), pointwise=('response',))
HELD_OUT = (
  'held out: accuracy {accuracy:.3f} [{low:.3f}, {high:.3f}] of {records}, '
  'calibration error {calibration_error:.3f}, Brier {brier:.3f}'
)

# The ids of each response of a record, and whether the first is the good one.
Row = tuple[tuple[list[int], ...], bool]


@dataclasses.dataclass(frozen=True)
class Config:
  """The config of the reward_model stage."""

  init: str = option(
    '',
    "a policy's directory, GGUF file or hub name",
    fixed='model',
    reads='model',
  )
  data: str = option(
    '',
    'records: chosen and rejected, or response and safe',
    is_code=True,
    fixed='data',
    reads='records',
  )
  data_map: dict[str, str] = option(
    {}, "columns of data and eval_data, e.g. {'safe': 'label'}", fixed='data'
  )
  kind: Literal['pairwise', 'pointwise'] = option(
    'pairwise',
    'pairwise: chosen over rejected; pointwise: safe or not',
    fixed='scores',
  )
  part: Literal['summary', 'response'] = option(
    'summary',
    'what is scored: summary (helpfulness), response (harmlessness)',
    fixed='scores',
  )
  eval_data: str = option(
    '',
    "held-out records; '': some of config.data",
    is_code=True,
    fixed='held_out',
    reads='records',
  )
  held_out: int = option(
    128, 'prompts of config.data to hold out', minimum=1, fixed='held_out'
  )
  eval_every: int = option(0, 'steps between evaluations; 0: none', minimum=0)
  data_mix: dict[str, float] = option(
    {},
    'in place of data: shares of the batches by source',
    is_code=True,
    fixed='data',
    reads='records',
  )
  skip_bad_records: bool = option(
    False, 'leave out, and count, records that cannot be used', fixed='data'
  )
  drop_too_long: bool = option(
    False, 'leave out, and count, records that are too long', fixed='data'
  )
  steps: int = option(0, 'optimiser steps; 0: computed from epochs', minimum=0)
  epochs: int = option(1, 'passes over the data (R1: 1)', minimum=1)
  batch_size: int = option(
    256, 'records a step (R1: 256)', minimum=1, fixed='batch'
  )
  micro_batch_size: int = option(
    16, 'records of one gradient', minimum=1, is_free=True
  )
  max_len: int = option(8192, 'max tokens of a row (R1: 8192)', minimum=2)
  length_buckets: int = option(
    4, 'number of row lengths to pad to', minimum=1, is_free=True
  )
  seed: int = option(
    0,
    'of held-out prompts and of the order',
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
  optim: optimizer.OptimConfig = optimizer.OptimConfig(lr=6e-6)
  parallel: device_placement.ParallelConfig = device_placement.ParallelConfig()


@dataclasses.dataclass(frozen=True)
class Dataset:
  """What loop.fit trains on and evaluates."""

  config: Config
  placement: device_placement.Placement
  records: list[dict]  # of the rows
  rows: list[Row]
  held_out_rows: list[Row]
  scores_program: Callable  # compiled, see rewards/reward_model.py

  def micro_batches(self, index_B: np.ndarray) -> tuple[list[dict], int, float]:
    """(the micro-batches of these records, their number of tokens, the share of
    padding)."""
    rows = [self.rows[n] for n in index_B]
    tokens = sum(len(ids) for responses, _ in rows for ids in responses)
    parts = micro_batches(rows, self.config)
    computed = sum(part['tokens_BGL'].size for part in parts)
    return parts, tokens, 1 - tokens / computed

  def evaluate(self, params: dict, step: int) -> dict[str, float]:
    """The held-out metrics, named 'eval/...', every config.eval_every steps and
    after the last step; else empty."""
    config, every = self.config, self.config.eval_every
    is_last = step >= loop.num_steps(config, len(self.rows))
    if not is_last and not (every and step % every == 0):
      return {}
    texts = [ids for responses, _ in self.held_out_rows for ids in responses]
    placement, program = self.placement, self.scores_program
    size = config.micro_batch_size
    score_N = reward_model.score_rows(placement, program, params, texts, size)
    label_N = np.array([label for _, label in self.held_out_rows])
    found = held_out_metrics(score_N.reshape(len(label_N), -1), label_N)
    print(HELD_OUT.format_map(found), flush=True)
    return {f'eval/{name}': value for name, value in found.items()}


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
  registry.check(config.trackers)
  placement = device_placement.placement(config.parallel)
  loop.check_batch_size(config, placement.num_shards)
  records, held_out = load_records(config)
  params, cfg, tokenizer = policy.load_with_tokenizer(
    config.init, config.compute
  )
  if not cfg.score:
    params, cfg = transformer.with_score(params, cfg)
  source = mixture.name_of(config.data, config.data_mix)
  records, rows = encode_good(tokenizer, records, config, source)
  held_out, held_out_rows = encode_good(
    tokenizer, held_out, config, config.eval_data or source
  )
  longest = max(len(ids) for x, _ in rows + held_out_rows for ids in x)
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
  dataset = Dataset(
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
  closing.show_training(workdir, began, claimed.progress, following)


def load_records(config: Config) -> tuple[list[dict], list[dict]]:
  """(training records, held-out records). Raises UserError for a record that
  does not fit config.kind and config.part."""
  records = _good_records(config, config.data, config.data_mix, config.seed)
  if config.eval_data:
    held_out = _good_records(config, config.eval_data, {}, config.seed + 1)
  else:
    records, held_out = record_files.split(
      records, config.held_out, config.seed
    )
  return records, held_out


def _good_records(config, source, mix, seed):
  """The records of a source. Raises UserError for those that do not fit, or
  leaves them out."""
  bad, kept = BadRecords(config.skip_bad_records), []
  columns = config.data_map
  for record in mixture.load_records(source, mix, seed, bad, columns):
    with bad.noted(record['id']):
      _check_record(config, record)
      kept.append(record)
  bad.finish(len(kept), mixture.name_of(source, mix))
  return kept


def _check_record(config, record):
  kind, part = config.kind, config.part
  for key in RESPONSES[kind]:
    text = record.get(key)
    if not isinstance(text, str) or not reward_model.scored_text(text, part):
      raise errors.UserError(
        f'record {record["id"]} has no text {key!r} with a {part}: drop it, '
        f'or change config.kind={kind} or config.part={part}'
      )
  safe = record.get('safe')
  if kind == 'pointwise' and not isinstance(safe, bool):
    raise errors.UserError(
      f"record {record['id']} has 'safe': {safe!r}: it must be true or false"
    )


def encode_good(
  tokenizer: Tokenizer, records: list, config: Config, source: str
) -> tuple[list[dict], list[Row]]:
  """(records, rows) of those of a source that are not too long. Raises
  UserError for the others, or leaves them out."""
  bad = BadRecords(config.skip_bad_records, drop_too_long=config.drop_too_long)
  kept, rows = [], []
  for record in records:
    with bad.noted(record['id']):
      made = templates.make_prompt(tokenizer, record, config.prompt)
      rows += encode(tokenizer, [record], config, [made])
      kept.append(record)
  bad.finish(len(kept), source)
  return kept, rows


def encode(
  tokenizer: Tokenizer,
  records: list,
  config: Config,
  made: Sequence[templates.Prompt],
) -> list[Row]:
  """Each record's responses as ids, with its label; in a pair the first
  response is the preferred one. The prompts of the records are made."""
  columns = []
  for key in RESPONSES[config.kind]:
    texts = [record[key] for record in records]
    column = reward_model.encode_made(
      tokenizer, config.prompt, config.part, records, texts, made
    )
    for record, ids in zip(records, column):
      if len(ids) > config.max_len:
        raise TooLong(
          f'record {record["id"]} has {len(ids)} tokens with its {key}; '
          f'config.max_len allows {config.max_len}: raise it or drop the record'
        )
    columns.append(column)
  labels = [record.get('safe', True) for record in records]
  return list(zip(zip(*columns), labels))


def micro_batches(rows: Sequence[Row], config: Config) -> list[dict]:
  """The micro-batches of a batch: arrays [B, G, L], G responses a record. The
  weight of a record is 1 / the number of records in the batch."""
  size = config.micro_batch_size
  lengths = [max(map(len, responses)) for responses, _ in rows]
  buckets = batching.lengths(config.max_len, config.length_buckets)
  parts = []
  for index_B, width in batching.micro_batches(lengths, size, buckets):
    responses = [ids for n in index_B for ids in rows[n][0]]
    tokens_BL, pos_BL = reward_model.pad(responses, width)
    parts.append(
      dict(
        tokens_BGL=tokens_BL.reshape(size, -1, width),
        pos_BGL=pos_BL.reshape(size, -1, width),
        label_B=np.array([rows[n][1] for n in index_B], np.float32),
        weight_B=np.full(size, 1 / len(rows), np.float32),
      )
    )
  return parts


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


def held_out_metrics(score_NG: np.ndarray, label_N: np.ndarray) -> dict:
  """Accuracy with its 95 % interval, calibration error, Brier score and the
  mean score of N records, pairs (G = 2) or single responses (G = 1)."""
  records = len(label_N)
  logit_N, centre = score_NG[:, 0], 0.0
  if score_NG.shape[1] == 2:
    logit_N = score_NG[:, 0] - score_NG[:, 1]
    centre = float(score_NG.mean())
    # Both orders of a pair, since the label of the first order is always true.
    logit_N = np.concatenate([logit_N, -logit_N])
    label_N = np.concatenate([label_N, ~label_N])
  probability_N = reward_model.sigmoid(logit_N)
  right_N = ((logit_N > 0) == label_N)[:records]
  low, high = statistics.mean_interval(right_N)
  return dict(
    records=records,
    accuracy=float(right_N.mean()),
    low=low,
    high=high,
    calibration_error=statistics.calibration_error(probability_N, label_N),
    brier=float(np.mean((probability_N - label_N) ** 2)),
    centre=centre,
  )
