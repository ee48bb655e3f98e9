"""Pads rows to a few lengths and splits them into micro-batches."""

from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from r1jax import errors

Ints = Sequence[int] | ndarray
Arrays = dict[str, ndarray]


def pad_rows(rows: Sequence[Ints], length: int) -> tuple[ndarray, ndarray]:
  """(tokens_BL int32, mask_BL bool): rows of ids, padded on the right."""
  assert all(len(row) <= length for row in rows)
  length_B = np.array([len(row) for row in rows], np.int32)
  mask_BL = np.arange(length) < length_B[:, None]
  tokens_BL = np.zeros((len(rows), length), np.int32)
  tokens_BL[mask_BL] = [token for row in rows for token in row]
  return tokens_BL, mask_BL


def lengths(max_length: int, count: int) -> list[int]:
  """`count` evenly spaced row lengths up to the max. length: the buckets."""
  return [-(-max_length * (n + 1) // count) for n in range(count)]


def bucket(lengths: Ints, buckets: Ints) -> ndarray:
  """For each length the smallest bucket that is not shorter."""
  buckets, longest = np.sort(buckets), max(lengths, default=0)
  if longest > buckets[-1]:
    raise errors.UserError(
      f'a row of {longest} tokens is longer than the largest length bucket, '
      f'{buckets[-1]}: add a bucket or shorten the rows'
    )
  return buckets[np.searchsorted(buckets, lengths)]


def micro_batches(
  lengths: Ints, micro_batch_size: int, buckets: Ints
) -> list[tuple[ndarray, int]]:
  """[(indices of micro_batch_size rows, padded length)], sorted by length.
  Index -1 is an empty row that pads the last micro-batch."""
  order = np.argsort(lengths, kind='stable')
  fill = -len(order) % micro_batch_size
  parts = np.append(order, np.full(fill, -1)).reshape(-1, micro_batch_size)
  longest = [max(lengths[n] for n in part if n >= 0) for part in parts]
  return list(zip(parts, bucket(longest, buckets).tolist()))


def cut(
  arrays: Arrays, micro_batch_size: int, buckets: Ints
) -> list[tuple[ndarray, Arrays]]:
  """[(numbers of the rows, arrays)]: the micro-batches of arrays [B, L, ...], each
  with a length of its own. Row -1 is empty, see take_rows."""
  length_B = (arrays['pos_BL'] >= 0).sum(axis=1)
  return [
    (row_B, take_rows(arrays, row_B, width))
    for row_B, width in micro_batches(length_B, micro_batch_size, buckets)
  ]


def take_rows(arrays: Arrays, row_B: ndarray, width: int) -> Arrays:
  """Some rows of arrays [B, L, ...], truncated or padded to `width` columns. Row
  -1 is empty: pos_BL is -1, all else is 0."""
  part = {}
  for name, a_BL in arrays.items():
    missing = max(0, width - a_BL.shape[1])
    padding = (0, 0), (0, missing), *[(0, 0)] * (a_BL.ndim - 2)
    part[name] = np.pad(a_BL[row_B, :width], padding)
    part[name][row_B < 0] = 0
  length_B = (arrays['pos_BL'][row_B] >= 0).sum(axis=1)
  empty_BL = np.arange(width)[None] >= length_B[:, None]
  part['pos_BL'][empty_BL | (row_B < 0)[:, None]] = -1
  return part
