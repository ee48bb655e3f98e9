"""Records of the reward_model stage as rows of ids, their micro-batches, and the
metrics of those that are held out."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from r1jax.data import batching, stored_records, templates
from r1jax.data.bad_records import BadRecords, TooLong
from r1jax.data.formats import Record
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.distributed import device_placement
from r1jax.evaluation import best, statistics
from r1jax.rewards import reward_model
from r1jax.supervised.reward_model_config import RESPONSES, Config

HELD_OUT = (
  'held out: accuracy {accuracy:.3f} [{low:.3f}, {high:.3f}] of {records}, '
  'calibration error {calibration_error:.3f}, Brier {brier:.3f}'
)

# The ids of each response of a record, and whether the first is the good one.
Row = tuple[tuple[list[int], ...], bool]


@dataclasses.dataclass(frozen=True)
class Dataset:
  """What loop.fit trains on and evaluates."""

  config: Config
  placement: device_placement.Placement
  records: list[Record]  # of the rows
  rows: Sequence[Row]
  held_out_rows: Sequence[Row]
  scores_program: Callable  # compiled, see rewards/reward_model.py

  def micro_batches(self, index_B: np.ndarray) -> tuple[list[dict], int, float]:
    """(the micro-batches of these records, their number of tokens, the share of
    padding)."""
    rows = [self.rows[n] for n in index_B]
    tokens = sum(len(ids) for responses, _ in rows for ids in responses)
    parts = micro_batches(rows, self.config)
    computed = sum(part['tokens_BGL'].size for part in parts)
    return parts, tokens, 1 - tokens / computed

  def evaluate(self, params: dict, step: int, steps: int) -> dict[str, float]:
    """The held-out metrics, named 'eval/...', every config.eval_every steps and
    after the last; else empty. Before the first step all scores are equal."""
    config, every = self.config, self.config.eval_every
    is_multiple = bool(every) and step > 0 and step % every == 0
    if step < steps and not is_multiple:
      return {}
    texts = [ids for responses, _ in self.held_out_rows for ids in responses]
    placement, program = self.placement, self.scores_program
    size = config.micro_batch_size
    score_N = reward_model.score_rows(placement, program, params, texts, size)
    label_N = np.array([label for _, label in self.held_out_rows])
    found = held_out_metrics(score_N.reshape(len(label_N), -1), label_N)
    print(HELD_OUT.format_map(found), flush=True)
    return {f'eval/{name}': value for name, value in found.items()}

  def score(self, line: dict[str, float]) -> float | None:
    """By what the checkpoint of an evaluation is compared: config.eval_best."""
    return best.score(self.config.eval_best, line) if line else None


def encode_good(
  tokenizer: Tokenizer,
  records: Sequence[Record],
  config: Config,
  source: str,
) -> tuple[list[Record], Sequence[Row]]:
  """(records, rows) of those of a source that are not too long; the rows need
  not be in memory. Raises UserError for the others, or leaves them out."""
  bad = BadRecords(config.skip_bad_records, drop_too_long=config.drop_too_long)
  kept, rows = list[Record](), stored_records.RowFile()
  for record in records:
    found = []
    with bad.noted(record['id']):
      made = templates.make_prompt(tokenizer, record, config.prompt)
      found = encode(tokenizer, [record], config, [made])
    for row in found:
      kept.append(record)
      rows.add(row)
  bad.finish(len(kept), source)
  return kept, rows


def longest(rows: Sequence[Row]) -> int:
  """The tokens of the longest response with its prompt."""
  return max(len(ids) for responses, _ in rows for ids in responses)


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
