"""The config of the sft stage and the records that it reads."""

import dataclasses
from typing import Literal

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.config import MAX_SEED, option
from r1jax.data import mixture, record_files, templates
from r1jax.data.bad_records import BadRecords
from r1jax.data.formats import Record
from r1jax.distributed import device_placement
from r1jax.evaluation import best
from r1jax.training import optimizer
from r1jax.training.trackers import registry

LOSS = 'eval/loss'
METRICS = LOSS, 'eval/perplexity'  # that can choose a checkpoint


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  every: int = option(
    50, 'steps between evaluations; 0: after the last step alone', minimum=0
  )
  data: str = option(
    '',
    "held-out records; '': some of config.data",
    is_code=True,
    fixed='held_out',
    reads='records',
  )
  data_map: dict[str, str] = option(
    {}, 'columns of data; {}: those of config.data_map', fixed='held_out'
  )
  held_out: int = option(
    0, 'prompts of config.data held out', minimum=0, fixed='held_out'
  )
  best: str = option(
    '',
    'the best checkpoint has the highest of these metrics, or the lowest: -NAME; '
    "'': -eval/loss",
    fixed='best',
  )

  @property
  def has_records(self) -> bool:
    """Whether any records are held out."""
    return bool(self.data or self.held_out)


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
  best: int = option(
    1, 'checkpoints to keep that are best by eval.best', minimum=0, is_free=True
  )
  eval: EvalConfig = EvalConfig()
  prompt: templates.PromptConfig = templates.PromptConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  scratch: policy.ScratchConfig = policy.ScratchConfig()
  optim: optimizer.OptimConfig = optimizer.OptimConfig(
    lr=5e-5, schedule='cosine'
  )
  parallel: device_placement.ParallelConfig = device_placement.ParallelConfig()


def check(config: Config) -> None:
  """Raises UserError for values that cannot work."""
  registry.check(config.trackers)
  if config.eval.has_records:
    best.check(best_metric(config), METRICS)
  elif config.eval.best:
    raise errors.UserError(
      'config.eval.best needs held-out records: set config.eval.held_out or '
      'config.eval.data'
    )


def best_metric(config: Config) -> str:
  """config.eval.best; without it the loss; '' without held-out records."""
  if not config.eval.has_records:
    return ''
  return config.eval.best or f'-{LOSS}'


def load_records(
  config: Config, bad: BadRecords, held_out_bad: BadRecords
) -> tuple[list[Record], list[Record]]:
  """(training records, held-out records). What cannot be read is noted in `bad`
  and, of config.eval.data, in held_out_bad."""
  records = mixture.load_records(
    config.data, config.data_mix, config.seed, bad, config.data_map
  )
  if not config.eval.data:
    return record_files.split(records, config.eval.held_out, config.seed)
  columns = config.eval.data_map or config.data_map
  held_out_records = mixture.load_records(
    config.eval.data, {}, config.seed + 1, held_out_bad, columns
  )
  return records, held_out_records
