"""Reward models: a policy with a score head, trained on pairs (helpfulness) or
on labelled responses (harmlessness) (R1, 3.1 and B.3.1)."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Literal

import ml_collections
import numpy as np

from r1jax import config as configs
from r1jax import errors, losses
from r1jax.checkpoints import policy, pretrained
from r1jax.config import option
from r1jax.data import batching, record_files, tasks, templates
from r1jax.distributed import device_placement, hosts, programs
from r1jax.evaluation import statistics
from r1jax.models import transformer
from r1jax.rewards import reward_model
from r1jax.training import loop, metrics, optimizer, run_directory, train_step

TEXTS = dict(pairwise=('chosen', 'rejected'), pointwise=('response',))
BINS = 10  # of the calibration error


@dataclasses.dataclass(frozen=True)
class Config:
  init: str = option('', "a policy's directory, GGUF file or hub name")
  data: str = option(
    '', 'records with chosen and rejected, or with response and safe'
  )
  kind: Literal['pairwise', 'pointwise'] = option(
    'pairwise', 'pairwise: chosen over rejected; pointwise: safe or not'
  )
  part: Literal['summary', 'response'] = option(
    'summary',
    'what is scored (R1): the summary for helpfulness, the whole response, '
    'thinking included, for harmlessness',
  )
  eval_data: str = option('', "held-out records; '': held out of the data")
  held_out: int = option(128, 'prompts to hold out of the data', least=1)
  eval_every: int = option(
    0, 'steps between evaluations; 0: at the end alone', least=0
  )
  steps: int = option(0, 'optimiser steps; 0: as the epochs say', least=0)
  epochs: int = option(1, 'passes over the data (R1: 1)', least=1)
  batch_size: int = option(256, 'records a step (R1: 256)', least=1)
  micro_batch_size: int = option(
    16, 'records whose gradient is computed at one time', least=1
  )
  max_len: int = option(
    8192, 'most tokens of prompt and response (R1: 8192)', least=2
  )
  length_buckets: int = option(4, 'row lengths to pad to', least=1)
  seed: int = option(0, 'of the held-out prompts and the order', least=0)
  save_every: int = option(200, 'steps between checkpoints', least=1)
  keep: int = option(2, 'newest checkpoints that are kept', least=1)
  prompt: templates.PromptConfig = templates.PromptConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  optim: optimizer.OptimConfig = optimizer.OptimConfig(lr=6e-6)
  parallel: device_placement.ParallelConfig = device_placement.ParallelConfig()


def run(config: ml_collections.ConfigDict, workdir: str | pathlib.Path) -> None:
  """Trains, and leaves the reward model in workdir/model, as transformers and
  the rl stage open it."""
  settings, config = config, configs.build(Config, config)
  workdir = pathlib.Path(workdir)
  placement = device_placement.placement(config.parallel)
  loop.check_batch_size(config, placement.num_shards)
  records, held_out_records = load_records(config)
  params, cfg, tokenizer = policy.load(
    config.init, config.compute, None, config.seed, True
  )
  if not cfg.score:
    params, cfg = transformer.with_score(params, cfg)
  rows = encode(tokenizer, records, config)
  held_out_rows = encode(tokenizer, held_out_records, config)
  longest = max(len(ids) for row in rows + held_out_rows for ids in row)
  policy.check_length(cfg, longest)
  device_placement.shardings(placement, params)  # refuses an uneven mesh
  if run_directory.claim(
    workdir, Config, settings, 'model', records=records + held_out_records
  ):
    return
  steps = loop.num_steps(config, len(rows))
  tx = optimizer.optimizer(config.optim, steps)
  state = train_step.create_state(placement, params, tx)
  del params
  dataset = Dataset(
    config=config,
    placement=placement,
    records=records,
    rows=rows,
    held_out_records=held_out_records,
    held_out_rows=held_out_rows,
    scores=reward_model.scores_program(placement, cfg),
    last_step=steps,
  )
  updates = train_step.update_programs(
    placement, make_loss(programs.shard_config(placement, cfg), config.kind), tx
  )
  writer = metrics.Writer(workdir, hosts.index())
  state, scores = loop.fit(config, placement, updates, writer, state, dataset)
  reward = dict(
    kind=config.kind,
    part=config.part,
    template=config.prompt.template,
    prefill=config.prompt.prefill,
    max_len=config.max_len,
  )
  reward |= {name.removeprefix('eval/'): x for name, x in scores.items()}
  params = device_placement.get_state(state.params)
  hosts.run_once(
    lambda: pretrained.save(workdir / 'model', params, cfg, tokenizer, reward)
  )


@dataclasses.dataclass(frozen=True)
class Dataset:
  """What loop.fit learns from: for each record a row of ids, or a pair."""

  config: Config
  placement: device_placement.Placement
  records: list[dict]
  rows: list[tuple[list[int], ...]]
  held_out_records: list[dict]
  held_out_rows: list[tuple[list[int], ...]]
  scores: Callable  # the compiled program that scores held-out rows
  last_step: int

  @property
  def size(self) -> int:
    return len(self.rows)

  def micro_batches(self, index_B: np.ndarray) -> tuple[list[dict], int]:
    """(the micro-batches of these records, their number of tokens)."""
    rows = [self.rows[n] for n in index_B]
    labels = [label(self.records[n]) for n in index_B]
    tokens = sum(len(ids) for row in rows for ids in row)
    return batch(rows, labels, self.config), tokens

  def evaluate(self, params: dict, step: int) -> dict[str, float]:
    """Held-out accuracy and calibration, where it is time for them."""
    every = self.config.eval_every
    if step < self.last_step and not (every and step % every == 0):
      return {}
    return measure(
      self.placement,
      self.scores,
      params,
      self.held_out_rows,
      self.held_out_records,
      self.config,
    )


def load_records(c):
  """(training records, held-out records), each fit to be learnt from."""
  records = tasks.load_records(c.data, c.seed)
  if c.eval_data:
    held = tasks.load_records(c.eval_data, c.seed + 1)
  else:
    records, held = record_files.split(records, c.held_out, c.seed)
  for record in records + held:
    for key in TEXTS[c.kind]:
      text = record.get(key)
      if not isinstance(text, str) or not reward_model.judged(text, c.part):
        raise errors.UserError(
          f'record {record["id"]} has no text {key!r} with a {c.part} in it, '
          f'which config.kind={c.kind} and config.part={c.part} ask for: drop '
          'the record or set them right'
        )
    if c.kind == 'pointwise' and not isinstance(record.get('safe'), bool):
      raise errors.UserError(
        f"record {record['id']} has 'safe': {record.get('safe')!r}: it must be "
        'true or false'
      )
  return records, held


def label(record):
  """Whether the first response is the good one: that of a pair always is."""
  return record.get('safe', True)


def encode(words, records, c):
  """A tuple of rows for each record: of chosen and rejected, or of the one
  response."""
  columns = []
  for key in TEXTS[c.kind]:
    texts = [record[key] for record in records]
    columns.append(reward_model.encode(words, c.prompt, c.part, records, texts))
    for record, row in zip(records, columns[-1]):
      if len(row) > c.max_len:
        raise errors.UserError(
          f'record {record["id"]} has {len(row)} tokens with its {key}; '
          f'config.max_len allows {c.max_len}: raise it or drop the record'
        )
  return list(zip(*columns))


def batch(rows, labels, c):
  """The micro-batches of a step, pairs kept together: [B, P, L], P responses of
  a record. The weights are 1 / all records."""
  assert len(rows) % c.micro_batch_size == 0
  lengths = [max(map(len, row)) for row in rows]
  buckets = batching.lengths(c.max_len, c.length_buckets)
  parts = []
  for index, width in batching.micro_batches(
    lengths, c.micro_batch_size, buckets
  ):
    flat = reward_model.pad([x for n in index for x in rows[n]], width)
    tokens_BPL, pos_BPL = (
      a.reshape(c.micro_batch_size, -1, width) for a in flat
    )
    parts.append(
      dict(
        tokens_BPL=tokens_BPL,
        pos_BPL=pos_BPL,
        label_B=np.array([labels[n] for n in index], np.float32),
        weight_B=np.full(c.micro_batch_size, 1 / len(rows), np.float32),
      )
    )
  return parts


def make_loss(cfg, kind):
  """Bradley-Terry of a pair, or cross entropy of a single response."""

  def fn(params, batch):
    B, P, L = batch['tokens_BPL'].shape
    flat = (batch[name].reshape(-1, L) for name in ('tokens_BPL', 'pos_BPL'))
    score_BP = transformer.scores(params, cfg, *flat).reshape(B, P)
    if kind == 'pairwise':
      chosen_B, rejected_B = score_BP[:, 0], score_BP[:, 1]
      return losses.preference_loss(chosen_B, rejected_B, batch['weight_B'])
    return losses.pointwise_loss(
      score_BP[:, 0], batch['label_B'], batch['weight_B']
    )

  return fn


def measure(placement, scores, params, rows, records, c):
  """Accuracy with its 95 % interval, calibration, and the centre of scores."""
  flat = [x for row in rows for x in row]
  score_NP = reward_model.score_rows(
    placement, scores, params, flat, c.micro_batch_size
  ).reshape(len(rows), -1)
  right_N = np.array([label(record) for record in records])
  logit_N, centre = score_NP[:, 0], 0.0
  if c.kind == 'pairwise':
    logit_N, centre = score_NP[:, 0] - score_NP[:, 1], float(score_NP.mean())
    # A pair is asked about both ways, or every answer would be yes.
    logit_N = np.concatenate([logit_N, -logit_N])
    right_N = np.concatenate([right_N, ~right_N])
  correct_N = (logit_N > 0) == right_N
  chance_N = reward_model.sigmoid(logit_N)
  accuracy = float(correct_N[: len(rows)].mean())
  low, high = statistics.wilson(accuracy * len(rows), len(rows))
  found = dict(
    records=len(rows),
    accuracy=accuracy,
    low=low,
    high=high,
    calibration_error=calibration_error(chance_N, right_N),
    brier=float(np.mean((chance_N - right_N) ** 2)),
    centre=centre,
  )
  print(
    f'held out: accuracy {accuracy:.3f} [{low:.3f}, {high:.3f}] of '
    f'{len(rows)}, calibration error {found["calibration_error"]:.3f}, '
    f'Brier {found["brier"]:.3f}',
    flush=True,
  )
  return {f'eval/{name}': x for name, x in found.items()}


def calibration_error(chance_N, right_N):
  """sum over bins of their share of N times |mean chance - share right|."""
  bin_N = np.minimum((chance_N * BINS).astype(int), BINS - 1)
  gaps = [abs(np.sum((chance_N - right_N)[bin_N == b])) for b in range(BINS)]
  return float(sum(gaps) / len(chance_N))
