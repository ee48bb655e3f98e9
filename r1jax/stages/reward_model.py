"""Reward models: a policy with a score head, trained on pairs (helpfulness) or
on labelled responses (harmlessness) (R1, 3.1 and B.3.1)."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Literal

import numpy as np

from r1jax import (
  config as configs,
)
from r1jax import (
  convert,
  data,
  errors,
  estimates,
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
)
from r1jax.config import option
from r1jax.rewards import preference

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
  batch: int = option(256, 'records a step (R1: 256)', least=1)
  micro: int = option(
    16, 'records whose gradient is computed at one time', least=1
  )
  max_len: int = option(
    8192, 'most tokens of prompt and response (R1: 8192)', least=2
  )
  buckets: int = option(4, 'row lengths to pad to', least=1)
  seed: int = option(0, 'of the held-out prompts and the order', least=0)
  save_every: int = option(200, 'steps between checkpoints', least=1)
  keep: int = option(2, 'newest checkpoints that are kept', least=1)
  prompt: generate.PromptConfig = generate.PromptConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  optim: train.OptimConfig = train.OptimConfig(lr=6e-6)
  parallel: parallel.ParallelConfig = parallel.ParallelConfig()


def run(config, workdir):
  """Trains, and leaves the reward model in workdir/model, as transformers and
  the rl stage open it."""
  c = configs.build(Config, config)
  workdir = pathlib.Path(workdir)
  place = parallel.placement(c.parallel)
  fit.check(c, place.rows)
  records, held = load_records(c)
  params, cfg, words = policy.load(c.init, c.compute, None, c.seed, True)
  if not cfg.score:
    params, cfg = model.with_score(params, cfg)
  rows, held_rows = (encode(words, x, c) for x in (records, held))
  policy.check_length(cfg, max(len(x) for row in rows + held_rows for x in row))
  parallel.shardings(place, params)  # Refuses what the mesh cannot cut.
  hosts.agree(workdir, config=c, records=records + held)
  hosts.once(lambda: configs.claim(workdir, Config, config))
  if hosts.once((workdir / 'model').exists):
    print(f'{workdir} is finished: the model is in {workdir / "model"}')
    return

  steps = fit.steps(c, len(rows))
  tx = train.optimizer(c.optim, steps)
  state = parallel.new_state(place, params, tx)
  del params
  score = spmd.map_rows(place, preference.make_score, cfg)

  def micro_batches(n_B):
    mine = [rows[n] for n in n_B]
    tokens = sum(len(x) for row in mine for x in row)
    return batch(mine, [label(records[n]) for n in n_B], c), tokens

  def evaluate(params, step):
    if step < steps and not (c.eval_every and step % c.eval_every == 0):
      return {}
    return measure(score, params, held_rows, held, c)

  state, facts = fit.fit(
    c,
    metrics.Writer(workdir, hosts.index()),
    state,
    spmd.train_step(place, loss_fn(spmd.on(place, cfg), c.kind), tx),
    len(rows),
    micro_batches,
    evaluate,
  )
  facts = {name.removeprefix('eval/'): x for name, x in facts.items()}
  about = dict(
    kind=c.kind, part=c.part, template=c.prompt.template,
    prefill=c.prompt.prefill, max_len=c.max_len,
  )  # fmt: skip
  params = parallel.get_state(state.params)
  hosts.once(
    lambda: convert.save(workdir / 'model', params, cfg, words, about | facts)
  )


def load_records(c):
  """(training records, held-out records), each fit to be learnt from."""
  records = tasks.load(c.data, c.seed)
  if c.eval_data:
    held = tasks.load(c.eval_data, c.seed + 1)
  else:
    records, held = data.split(records, c.held_out, c.seed)
  for record in records + held:
    for key in TEXTS[c.kind]:
      text = record.get(key)
      if not isinstance(text, str) or not preference.judged(text, c.part):
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
    columns.append(preference.encode(words, c.prompt, c.part, records, texts))
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
  assert len(rows) % c.micro == 0
  lengths = [max(map(len, row)) for row in rows]
  buckets = data.lengths(c.max_len, c.buckets)
  parts = []
  for index, width in data.micro_batches(lengths, c.micro, buckets):
    flat = preference.pad([x for n in index for x in rows[n]], width)
    tokens_BPL, pos_BPL = (a.reshape(c.micro, -1, width) for a in flat)
    parts.append(
      dict(
        tokens_BPL=tokens_BPL,
        pos_BPL=pos_BPL,
        label_B=np.array([labels[n] for n in index], np.float32),
        weight_B=np.full(c.micro, 1 / len(rows), np.float32),
      )
    )
  return parts


def loss_fn(cfg, kind):
  """Bradley-Terry of a pair, or cross entropy of a single response."""

  def fn(params, batch):
    B, P, L = batch['tokens_BPL'].shape
    flat = (batch[name].reshape(-1, L) for name in ('tokens_BPL', 'pos_BPL'))
    score_BP = model.scores(params, cfg, *flat).reshape(B, P)
    if kind == 'pairwise':
      chosen_B, rejected_B = score_BP[:, 0], score_BP[:, 1]
      return losses.preference_loss(chosen_B, rejected_B, batch['weight_B'])
    return losses.pointwise_loss(
      score_BP[:, 0], batch['label_B'], batch['weight_B']
    )

  return fn


def measure(score, params, rows, records, c):
  """Accuracy with its 95 % interval, calibration, and the centre of scores."""
  flat = [x for row in rows for x in row]
  score_NP = preference.score_rows(score, params, flat, c.micro).reshape(
    len(rows), -1
  )
  right_N = np.array([label(record) for record in records])
  logit_N, centre = score_NP[:, 0], 0.0
  if c.kind == 'pairwise':
    logit_N, centre = score_NP[:, 0] - score_NP[:, 1], float(score_NP.mean())
    # A pair is asked about both ways, or every answer would be yes.
    logit_N = np.concatenate([logit_N, -logit_N])
    right_N = np.concatenate([right_N, ~right_N])
  correct_N = (logit_N > 0) == right_N
  chance_N = preference.sigmoid(logit_N)
  accuracy = float(correct_N[: len(rows)].mean())
  low, high = estimates.wilson(accuracy * len(rows), len(rows))
  found = dict(
    records=len(rows), accuracy=accuracy, low=low, high=high,
    calibration_error=calibration_error(chance_N, right_N),
    brier=float(np.mean((chance_N - right_N) ** 2)), centre=centre,
  )  # fmt: skip
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
