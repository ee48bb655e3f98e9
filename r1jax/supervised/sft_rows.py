"""Records of the sft stage as rows of ids, their micro-batches, and the loss on
those that are held out."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from r1jax import errors
from r1jax.data import batching, sequences, stored_records, templates
from r1jax.data.bad_records import BadRecords, TooLong
from r1jax.data.formats import Record
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.distributed import hosts, programs, watchdog
from r1jax.distributed.device_placement import Placement
from r1jax.evaluation import best, statistics
from r1jax.models import token_logprobs, transformer
from r1jax.sampling import tool_calls
from r1jax.supervised.sft_config import Config, best_metric

HELD_OUT = (
  'held out: loss {loss:.4f} [{loss_low:.4f}, {loss_high:.4f}], perplexity '
  '{perplexity:.3f} of {records} records'
)


@dataclasses.dataclass(frozen=True)
class Rows:
  """Rows of ids, and masks of those to learn, which need not be in memory."""

  records: list[Record]  # of the rows
  ids: Sequence[list[int]]
  masks: Sequence[list[bool]]
  longest: int  # tokens of a row

  def arrays(self, index_B: np.ndarray) -> dict[str, np.ndarray]:
    """tokens_BL, pos_BL and mask_BL of some rows, padded on the right."""
    rows = [self.ids[n] for n in index_B]
    length = max(map(len, rows))
    tokens_BL, valid_BL = batching.pad_rows(rows, length)
    mask_BL, _ = batching.pad_rows([self.masks[n] for n in index_B], length)
    pos_BL = np.where(valid_BL, np.arange(length), -1).astype(np.int32)
    return dict(tokens_BL=tokens_BL, pos_BL=pos_BL, mask_BL=mask_BL)


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """The rows that are held out, and by what they are evaluated."""

  rows: Rows
  placement: Placement
  program: Callable  # compiled, see loss_program


@dataclasses.dataclass(frozen=True)
class Dataset:
  """What loop.fit trains on and evaluates."""

  config: Config
  rows: Rows
  num_shards: int = 1  # that have equal parts of a micro-batch
  held_out: HeldOut | None = None

  @property
  def records(self) -> list[Record]:
    return self.rows.records

  def micro_batches(self, index_B: np.ndarray) -> tuple[list[dict], int, float]:
    """(the micro-batches of these records, their number of tokens, the share of
    padding). The weight of a token is its mask / the number of tokens to learn in
    the batch."""
    arrays = self.rows.arrays(index_B)
    mask_BL = arrays.pop('mask_BL')
    arrays['weight_BL'] = (mask_BL / mask_BL.sum()).astype(np.float32)
    parts = self._cut(arrays)
    tokens = int((arrays['pos_BL'] >= 0).sum())
    computed = sum(part['tokens_BL'].size for part in parts)
    return parts, tokens, 1 - tokens / computed

  def _cut(self, arrays):
    """The micro-batches: with config.tokens_per_micro_batch of packed rows."""
    config, shards = self.config, self.num_shards
    if not config.tokens_per_micro_batch:
      widths = batching.lengths(config.max_len, config.length_buckets)
      parts = batching.cut(arrays, config.micro_batch_size, widths)
      return [part for _, part in parts]
    widths = batching.lengths(self.rows.longest, config.length_buckets)
    layouts = sequences.layouts(
      sequences.unshared((arrays['pos_BL'] >= 0).sum(axis=1)),
      config.tokens_per_micro_batch,
      shards,
      widths,
    )
    return [sequences.packed(arrays, layout, shards) for layout in layouts]

  def evaluate(self, params: dict, step: int, steps: int) -> dict[str, float]:
    """The held-out metrics, named 'eval/...', before the first step, every
    config.eval.every steps and after the last; else empty. On SIGTERM raises
    Terminated, on all hosts."""
    every = self.config.eval.every
    is_due = step >= steps or bool(every) and step % every == 0
    if self.held_out is None or not is_due:
      return {}
    found = held_out_metrics(self.config, self.held_out, params)
    print(HELD_OUT.format_map(found), flush=True)
    return {f'eval/{name}': value for name, value in found.items()}

  def score(self, line: dict[str, float]) -> float | None:
    """By what the checkpoint of an evaluation is compared: config.eval.best."""
    return best.score(best_metric(self.config), line) if line else None


def encode(
  tokenizer: Tokenizer,
  records: Sequence[Record],
  config: Config,
  source: str,
  bad: BadRecords | None = None,
) -> Rows:
  """Rows of prompt, response and end token. The mask is True for what a policy
  would sample: the response without the results of tools, and the end. Raises
  UserError for records of the source that cannot be used, with those in `bad`,
  or leaves them out."""
  bad = bad or BadRecords(
    config.skip_bad_records, drop_too_long=config.drop_too_long
  )
  ids, masks = stored_records.RowFile(), stored_records.RowFile()
  kept, longest = list[Record](), 0
  for record in records:
    if not isinstance(record.get('response'), str):
      bad.note(
        record['id'],
        f'record {record["id"]} of {source} has no response to train on '
        f'(its keys are {", ".join(record)})',
      )
      continue
    row = None
    with bad.noted(record['id']):
      made = templates.make_prompt(tokenizer, record, config.prompt)
      row, mask = _encode_record(tokenizer, record, made, config)
    if row is not None:
      kept.append(record)
      ids.add(row)
      masks.add(mask)
      longest = max(longest, len(row))
  bad.finish(len(kept), source)
  return Rows(records=kept, ids=ids, masks=masks, longest=longest)


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


def loss_program(
  placement: Placement, cfg: transformer.ModelConfig
) -> Callable:
  """The compiled (params, rows) -> loss_B: -sum log p of the masked tokens of
  each row."""
  cfg = programs.shard_config(placement, cfg)

  def loss(params, rows):
    tokens_BL, pos_BL, mask_BL = rows
    logp_BL, _ = token_logprobs.logprobs(params, cfg, tokens_BL, pos_BL)
    return -(logp_BL * mask_BL).sum(axis=1)

  return programs.rows_program(placement, loss)


def held_out_metrics(config: Config, held_out: HeldOut, params: dict) -> dict:
  """The mean loss of the tokens to learn with its 95 % interval, in which whole
  records are resampled, and the perplexity exp(loss)."""
  rows, size = held_out.rows, config.micro_batch_size
  lengths = [len(ids) for ids in rows.ids]
  widths = batching.lengths(config.max_len, config.length_buckets)
  loss_N, count_N = np.zeros(len(lengths)), np.zeros(len(lengths))
  parts = batching.micro_batches(lengths, size, widths)
  for index_B, width in parts:
    real_B = index_B[index_B >= 0]
    part = batching.take_rows(
      rows.arrays(real_B), np.where(index_B >= 0, np.arange(size), -1), width
    )
    arrays = part['tokens_BL'], part['pos_BL'], part['mask_BL']
    loss_B = programs.run_rows(
      held_out.placement, held_out.program, params, arrays
    )
    loss_N[real_B] = loss_B[: len(real_B)]
    count_N[real_B] = part['mask_BL'][: len(real_B)].sum(axis=1)
    watchdog.heartbeat()
    hosts.raise_if_terminating()
  loss = loss_N.sum() / count_N.sum()
  low, high = statistics.bootstrap_ratio(loss_N, count_N)
  return dict(
    loss=float(loss),
    loss_low=low,
    loss_high=high,
    perplexity=math.exp(min(loss, 700.0)),
    records=len(lengths),
  )
