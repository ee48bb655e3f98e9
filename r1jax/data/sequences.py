"""Sequence packing: rows one after another in packed rows, so that micro-batches
of about equal tokens have little padding.

A packed row [P, T] has several rows; positions begin at 0 in each. Rows of a
group can share their prompt: those after the first continue from its last token,
which they repeat. By the positions attention knows which keys are visible (see
models/sequence_packing.py). The layout is a function of lengths alone.
"""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from r1jax import errors
from r1jax.data import batching
from r1jax.data.batching import Arrays

# Of the shapes of a micro-batch, the first in the order of `_shapes` is chosen
# whose share of real tokens is at least this share of the best.
NEARLY_BEST = 0.95
# The rows of a packed row for which a program is compiled, on average, at least.
MIN_ROWS = 8

Item = tuple[int, int]  # (tokens, number) of a row
Shape = tuple[int, int]  # (packed rows of a shard, columns T)
Bin = list[int]  # the numbers of the rows in a packed row, in their order


class Rows(NamedTuple):
  """What is packed."""

  length_B: ndarray  # tokens of prompt and response
  prompt_B: ndarray  # tokens that a row shares with those of its group
  group_B: ndarray  # each row's own number if no prompts are shared

  def added(self, row: int) -> int:
    """The columns of a row after another of its group."""
    return int(self.length_B[row] - self.prompt_B[row]) + 1


class Layout(NamedTuple):
  """A micro-batch of rows [B, L] and packed rows [P, T], where L = T. Rows are
  numbered within a shard."""

  row_B: ndarray  # the number of each row; -1: empty
  source_PT: ndarray  # row * L + column of a packed token; -1: padding
  place_BL: ndarray  # packed row * T + column of a row's token; -1: padding


def unshared(length_B: ndarray) -> Rows:
  """Rows that share no prompts."""
  row_B = np.arange(len(length_B))
  return Rows(length_B=length_B, prompt_B=np.zeros_like(row_B), group_B=row_B)


def check_tokens(tokens: int, shards: int, longest: int) -> None:
  """Refuses micro-batches that do not hold the longest row on each shard."""
  if tokens // shards < longest:
    raise errors.UserError(
      f'config.tokens_per_micro_batch is {tokens}, {tokens // shards} for each '
      f'of {shards} data shards, but a row may have {longest} tokens: set it to '
      f'at least {shards * longest}, or shorten the rows'
    )


def layouts(
  rows: Rows, tokens: int, shards: int, widths: Sequence[int]
) -> list[Layout]:
  """Micro-batches of at most `tokens` tokens that hold every row once. The
  number of columns is one of the ascending widths. Those before the last have
  as many packed rows as the tokens allow, the last ones a half, a quarter, ...
  of it."""
  left = sorted(zip(rows.length_B.tolist(), range(len(rows.length_B))))
  check_tokens(tokens, shards, left[-1][0])
  tokens //= shards
  widths = sorted({min(width, tokens) for width in widths})
  found = []
  while left:
    bins, left, width = _micro_batch(rows, left, tokens, shards, widths)
    found.append(_layout(rows, bins, shards, width))
  return found


def _micro_batch(rows, left, tokens, shards, widths):
  """(packed rows, the items that remain, columns)."""
  tried = []
  for count, width in _shapes(left[-1][0], tokens, widths):
    bins, rest = _fill(rows, left, count * shards, width)
    real = sum(rows.length_B[row] for one in bins for row in one)
    tried.append((real / (count * shards * width), bins, rest, width))
  best = max(share for share, *_ in tried)
  return next(x[1:] for x in tried if x[0] >= NEARLY_BEST * best)


def _shapes(longest: int, tokens: int, widths: Sequence[int]) -> list[Shape]:
  """The shapes that may hold the longest row, narrow ones first, whose attention
  has fewer scores; then the narrowest with fewer packed rows."""
  fitting = [width for width in widths if width >= longest]
  shapes = [(tokens // width, width) for width in fitting]
  count = shapes[0][0] // 2
  while count:
    shapes.append((count, fitting[0]))
    count //= 2
  return shapes


def _fill(
  rows: Rows, left: list[Item], count: int, width: int
) -> tuple[list[Bin], list[Item]]:
  """(`count` packed rows, the items that remain). A packed row is filled with
  the longest row that has space, if possible of the group of the one before."""
  left = list(left)
  members: dict[int, list[Item]] = {}
  for item in left:
    members.setdefault(rows.group_B[item[1]], []).append(item)
  bins: list[Bin] = []
  for _ in range(count):
    space, one = width, Bin()
    own: list[Item] = []
    while left:
      fitting = [item for item in own if rows.added(item[1]) <= space]
      index = bisect.bisect(left, (space, len(rows.length_B))) - 1
      if fitting:
        item = fitting[-1]
        space -= rows.added(item[1])
      elif index >= 0:
        item = left[index]
        space -= item[0]
      else:
        break
      own = members[rows.group_B[item[1]]]
      own.remove(item)
      del left[bisect.bisect_left(left, item)]
      one.append(item[1])
    bins.append(one)
  return bins, left


def _layout(rows, bins, shards, width):
  """The Layout of packed rows of so many columns."""
  # Neighbours have rows of similar lengths: they go to different shards.
  parts = [bins[shard::shards] for shard in range(shards)]
  most = max(sum(map(len, part)) for part in parts)
  size = MIN_ROWS * len(parts[0])
  while size < most:
    size *= 2
  row_B, source_PT, place_BL = [], [], []
  for part in parts:
    shard = _shard_layout(rows, part, size, width)
    row_B.append(shard.row_B)
    source_PT.append(shard.source_PT)
    place_BL.append(shard.place_BL)
  return Layout(
    row_B=np.concatenate(row_B),
    source_PT=np.concatenate(source_PT),
    place_BL=np.concatenate(place_BL),
  )


def _shard_layout(rows, bins, size, width):
  """The Layout of a shard's packed rows, with space for `size` rows."""
  row_B = np.full(size, -1)
  source_PT = np.full((len(bins), width), -1, np.int32)
  place_BL = np.full((size, width), -1, np.int32)
  n = 0
  for p, one in enumerate(bins):
    end, group, prompt_place = 0, None, 0
    for row in one:
      length, prompt = rows.length_B[row], rows.prompt_B[row]
      first = 0
      if rows.group_B[row] == group and prompt:
        first = prompt - 1
      else:
        prompt_place = p * width + end
      begin, end = end, end + length - first
      source_PT[p, begin:end] = n * width + np.arange(first, length)
      place_BL[n, first:length] = p * width + np.arange(begin, end)
      place_BL[n, :prompt] = prompt_place + np.arange(prompt)
      row_B[n], group, n = row, rows.group_B[row], n + 1
  return Layout(row_B=row_B, source_PT=source_PT, place_BL=place_BL)


def with_rows(arrays: Arrays, layout: Layout) -> Arrays:
  """The rows [B, L, ...] of a layout, and how they are packed."""
  part = batching.take_rows(arrays, layout.row_B, layout.source_PT.shape[1])
  return part | dict(source_PT=layout.source_PT, place_BL=layout.place_BL)


def packed(arrays: Arrays, layout: Layout, shards: int) -> Arrays:
  """Arrays [P, T] of the packed tokens, from those of all rows, [B, L]. On
  padding pos_BL is -1, all else is 0."""
  P, T = layout.source_PT.shape
  rows = len(layout.row_B) // shards
  first_P1 = rows * (np.arange(P) // (P // shards))[:, None]
  is_real_PT = layout.source_PT >= 0
  row_PT = layout.row_B[first_P1 + layout.source_PT // T * is_real_PT]
  part = {}
  for name, a_BL in arrays.items():
    column_PT = np.where(is_real_PT, layout.source_PT % T, 0)
    part[name] = a_BL[row_PT, column_PT] * is_real_PT
  part['pos_BL'][~is_real_PT] = -1
  return part


def real_tokens(source_PT: ndarray) -> int:
  """The packed tokens without padding and without repeated ones of prompts."""
  column_PT = source_PT % source_PT.shape[1]
  before_PT = np.pad(source_PT[:, :-1], ((0, 0), (1, 0)), constant_values=-2)
  is_repeated_PT = (column_PT > 0) & (source_PT != before_PT + 1)
  return int(((source_PT >= 0) & ~is_repeated_PT).sum())
