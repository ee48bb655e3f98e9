"""Padding, length buckets and micro-batches."""

import numpy as np
import pytest

from r1jax import errors
from r1jax.data import batching


def test_rows_are_padded_on_the_right():
  tokens_BL, mask_BL = batching.pad_rows([[5, 0, 7], [], [9]], 4)
  assert tokens_BL.tolist() == [[5, 0, 7, 0], [0] * 4, [9, 0, 0, 0]]
  assert mask_BL.tolist() == [
    [True, True, True, False],
    [False] * 4,
    [True, False, False, False],
  ]
  assert tokens_BL.dtype == np.int32


def test_a_length_is_padded_to_the_smallest_sufficient_bucket():
  assert batching.bucket([0, 8, 9, 16, 31], [32, 8, 16]).tolist() == [
    8,
    8,
    16,
    16,
    32,
  ]
  with pytest.raises(errors.UserError, match='a row of 33 tokens'):
    batching.bucket([4, 33], [8, 16, 32])


def test_micro_batches_have_every_row_once_sorted_by_length():
  lengths = [30, 3, 12, 9, 3, 16, 1]
  micro = batching.micro_batches(lengths, 3, [8, 16, 32])
  assert [(rows.tolist(), length) for rows, length in micro] == [
    ([6, 1, 4], 8),
    ([3, 2, 5], 16),
    ([0, -1, -1], 32),
  ]


def test_evenly_spaced_buckets_end_with_the_max_length():
  assert batching.lengths(10, 3) == [4, 7, 10]


def test_micro_batches_of_arrays_have_their_own_lengths_and_empty_fill_rows():
  arrays = dict(
    pos_BL=np.array([[0, 1, 2, -1], [0, -1, -1, -1], [0, 1, -1, -1]]),
    x_BL=np.arange(1, 13).reshape(3, 4),
  )
  (short_B, short), (long_B, long) = batching.cut(arrays, 2, [2, 5])
  assert short_B.tolist() == [1, 2] and long_B.tolist() == [0, -1]
  assert short['pos_BL'].tolist() == [[0, -1], [0, 1]]
  assert short['x_BL'].tolist() == [[5, 6], [9, 10]]
  assert long['pos_BL'].tolist() == [[0, 1, 2, -1, -1], [-1] * 5]
  assert long['x_BL'].tolist() == [[1, 2, 3, 4, 0], [0] * 5]
