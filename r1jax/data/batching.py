"""Rows padded to a few lengths and cut into micro-batches."""

import numpy as np

from r1jax import errors


def pad_rows(rows, length):
  """(tokens_BL int32, mask_BL bool): rows of ids, padded on the right."""
  assert all(len(row) <= length for row in rows)
  length_B = np.array([len(row) for row in rows], np.int32)
  mask_BL = np.arange(length) < length_B[:, None]
  tokens_BL = np.zeros((len(rows), length), np.int32)
  tokens_BL[mask_BL] = [token for row in rows for token in row]
  return tokens_BL, mask_BL


def bucket(lengths, buckets):
  """The smallest bucket that holds each length."""
  buckets = np.sort(buckets)
  longest = max(lengths, default=0)
  if longest > buckets[-1]:
    raise errors.UserError(
      f'a row of {longest} tokens is longer than the largest bucket, '
      f'{buckets[-1]}: add a bucket or shorten the rows'
    )
  return buckets[np.searchsorted(buckets, lengths)]


def micro_batches(lengths, rows_per_micro, buckets):
  """[(rows [rows_per_micro], padded length)], rows sorted by their length.

  Row −1 is an empty row: it fills up the last micro-batch.
  """
  assert rows_per_micro > 0
  order = np.argsort(lengths, kind='stable')
  fill = -len(order) % rows_per_micro
  rows_MR = np.append(order, np.full(fill, -1)).reshape(-1, rows_per_micro)
  longest_M = [
    max(lengths[row] for row in rows if row >= 0) for rows in rows_MR
  ]
  return [(r, int(b)) for r, b in zip(rows_MR, bucket(longest_M, buckets))]


def lengths(longest, count):
  """`count` evenly spaced row lengths up to the longest: the buckets."""
  return [-(-longest * (i + 1) // count) for i in range(count)]


def cut(arrays, rows_per_micro, buckets):
  """[(which rows, arrays)]: the micro-batches of arrays [B, L], each cut to
  its own length. Row -1 fills up the last: no tokens, no weight."""
  length_B = (arrays['pos_BL'] >= 0).sum(axis=1)
  batches = []
  for index, width in micro_batches(length_B, rows_per_micro, buckets):
    part = {}
    for name, a in arrays.items():
      a = np.pad(a, ((0, 0), (0, max(0, width - a.shape[1]))))
      part[name] = a[index, :width]
      part[name][index < 0] = 0
    empty = np.arange(width)[None] >= length_B[index][:, None]
    part['pos_BL'][empty | (index < 0)[:, None]] = -1
    batches.append((index, part))
  return batches
