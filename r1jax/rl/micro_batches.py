"""Cuts the rows of a rollout into micro-batches: of rows with a prompt and a
response, or of packed rows, in which responses of a group share their prompt, or
of whole rows one after another in packed rows (data/sequences.py).

The second have fewer tokens, unless prompts are short or the responses of a
group differ much in length: they are padded to the longest in the micro-batch.
With fewer responses in a packed row its responses are of more equal lengths.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from r1jax.data import batching, sequences
from r1jax.models.packing import Packing
from r1jax.rl.grpo import Batch, GrpoConfig

# With share_prompts=auto rows are packed if they then have less than this share
# of the tokens.
WORTHWHILE = 0.9

Parts = list[tuple[np.ndarray, int]]  # (numbers of rows, columns of a row)


class Cutting(NamedTuple):
  """How batches are cut into micro-batches."""

  micro_batch_size: int  # rows of a prompt and a response
  length_buckets: int  # number of lengths
  prompt_width: int  # tokens of the longest prompt of the run
  num_shards: int  # that have equal parts of a micro-batch
  tokens: int = 0  # of a micro-batch of rows one after another; 0: none is
  can_share: bool = True  # whether these can share their prompts


def choose_packing(
  config: GrpoConfig, batch: Batch, cutting: Cutting
) -> Packing | None:
  """The form of packed rows for a rollout, that with the fewest tokens; None for
  rows with a prompt each."""
  if cutting.tokens or config.share_prompts == 'off' or config.mtp_coef:
    return None
  prompt_B = batch['prompt_BL'].sum(axis=1)
  # The rollout beside a checkpoint may be of a run with longer prompts.
  widest = max(cutting.prompt_width, prompt_B.max())
  widths = batching.lengths(widest, cutting.length_buckets)
  (width,) = batching.bucket([prompt_B.max()], widths).tolist()
  best, fewest = None, math.inf
  if config.share_prompts == 'auto':
    fewest = WORTHWHILE * _tokens(_whole_parts(batch, cutting), None)
  # Each device has packed rows of its own, and a group fills some of them.
  device_rows = cutting.micro_batch_size // cutting.num_shards
  most = math.gcd(config.group_size, device_rows)
  for responses in range(2, most + 1):
    if most % responses == 0:
      packing = Packing(width=width, responses=responses)
      parts = _packed_parts(config, batch, cutting, packing)
      if _tokens(parts, packing) < fewest:
        best, fewest = packing, _tokens(parts, packing)
  return best


def cut(
  config: GrpoConfig, batch: Batch, cutting: Cutting, packing: Packing | None
) -> list[tuple[np.ndarray, Batch]]:
  """[(numbers of the rows, arrays)]: the micro-batches of whole groups of rows.
  Row -1 is empty. Those of packed rows have `packing`, the others no
  'prompt_BL'."""
  if cutting.tokens:
    return _cut_sequences(config, batch, cutting)
  arrays: dict[str, Any] = dict(batch)
  if packing:
    parts = _packed_parts(config, batch, cutting, packing)
  else:
    parts = _whole_parts(batch, cutting)
    del arrays['prompt_BL']
  micro_batches = []
  for row_B, width in parts:
    micro_batch: Batch = batching.take_rows(arrays, row_B, width)
    if packing:
      micro_batch['packing'] = packing
    micro_batches.append((row_B, micro_batch))
  return micro_batches


def _cut_sequences(config, batch, cutting):
  """`cut` into micro-batches of about equal tokens."""
  length_B = (batch['pos_BL'] >= 0).sum(axis=1)
  shares = config.share_prompts != 'off' and not config.mtp_coef
  rows = sequences.unshared(length_B)
  if shares and cutting.can_share:
    rows = sequences.Rows(
      length_B=length_B,
      prompt_B=batch['prompt_BL'].sum(axis=1),
      group_B=rows.group_B // config.group_size,
    )
  columns, shards = batch['tokens_BL'].shape[1], cutting.num_shards
  widths = batching.lengths(columns, cutting.length_buckets)
  arrays = {name: a for name, a in batch.items() if name != 'prompt_BL'}
  return [
    (layout.row_B, sequences.with_rows(arrays, layout))
    for layout in sequences.layouts(rows, cutting.tokens, shards, widths)
  ]


def _whole_parts(batch, cutting) -> Parts:
  columns = batch['tokens_BL'].shape[1]
  return batching.micro_batches(
    (batch['pos_BL'] >= 0).sum(axis=1),
    cutting.micro_batch_size,
    batching.lengths(columns, cutting.length_buckets),
  )


def _packed_parts(config, batch, cutting, packing) -> Parts:
  """The members of each group are sorted by length, and so are packed rows."""
  length_B = ((batch['pos_BL'] >= 0) & ~batch['prompt_BL']).sum(axis=1)
  order_PG = np.argsort(length_B.reshape(-1, config.group_size), kind='stable')
  first_P1 = config.group_size * np.arange(len(order_PG))[:, None]
  packed = (first_P1 + order_PG).reshape(-1, packing.responses)
  columns = batch['tokens_BL'].shape[1] - cutting.prompt_width
  longest = max(columns, length_B.max())
  parts = batching.micro_batches(
    length_B[packed].max(axis=1),
    cutting.micro_batch_size // packing.responses,
    batching.lengths(longest, cutting.length_buckets),
  )
  # Packed row -1, which fills a micro-batch, has the empty rows.
  packed = np.append(packed, np.full((1, packing.responses), -1), axis=0)
  return [(packed[n].ravel(), packing.width + width) for n, width in parts]


def _tokens(parts: Parts, packing: Packing | None) -> int:
  """The tokens that are computed, padding among them."""
  total = 0
  for row_B, width in parts:
    total += len(row_B) * width
    if packing:
      total -= _repeated(packing, len(row_B)) * packing.width
  return total


def _repeated(packing, rows):
  """The rows whose prompts are not computed."""
  return rows - rows // packing.responses


def padding(micro_batches: Sequence[Batch]) -> float:
  """The share of the computed tokens that is padding."""
  real = computed = 0
  for part in micro_batches:
    if 'source_PT' in part:
      real += sequences.real_tokens(part['source_PT'])
      computed += part['source_PT'].size
      continue
    is_real_BL = part['pos_BL'] >= 0
    real += is_real_BL.sum()
    computed += is_real_BL.size
    if 'packing' in part:
      packing, rows = part['packing'], len(is_real_BL)
      is_first_B = np.arange(rows) % packing.responses == 0
      real -= part['prompt_BL'][~is_first_B].sum()
      computed -= _repeated(packing, rows) * packing.width
  return float(1 - real / computed)
