"""The config of the reward_model stage and the records that it reads."""

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
from r1jax.rewards import reward_model
from r1jax.training import optimizer
from r1jax.training.trackers import registry

# The keys of a record's responses.
RESPONSES = dict(pairwise=('chosen', 'rejected'), pointwise=('response',))
# The held-out metrics that can choose a checkpoint.
METRICS = 'eval/accuracy', 'eval/calibration_error', 'eval/brier'


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
  eval_every: int = option(
    0, 'steps between evaluations; 0: after the last step alone', minimum=0
  )
  eval_best: str = option(
    'eval/accuracy',
    'the best checkpoint has the highest of these metrics, or the lowest: -NAME',
    fixed='best',
  )
  best: int = option(
    1, 'checkpoints to keep that are best by eval_best', minimum=0, is_free=True
  )
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


def check(config: Config) -> None:
  """Raises UserError for values that cannot work."""
  registry.check(config.trackers)
  best.check(config.eval_best, METRICS, 'eval_best')


def load_records(config: Config) -> tuple[list[Record], list[Record]]:
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
