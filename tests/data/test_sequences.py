"""Layouts of rows one after another in packed rows: every row is in one, shapes
are few, and little is padding."""

import numpy as np
import pytest

from r1jax import errors
from r1jax.data import batching, sequences
from r1jax.data.sequences import Rows

GROUP = 4


def rows_of(prompts=6, cap=90, share=True, seed=0):
  """Rows of prompts of 5 to 14 tokens and responses of lognormal lengths."""
  random, count = np.random.default_rng(seed), prompts * GROUP
  prompt_B = np.repeat(random.integers(5, 15, prompts), GROUP)
  response_B = np.clip(random.lognormal(2.5, 1, count), 1, cap).astype(int)
  group_B = np.arange(count) // GROUP
  length_B = prompt_B + response_B
  if not share:
    return sequences.unshared(length_B)
  return Rows(length_B=length_B, prompt_B=prompt_B, group_B=group_B)


def arrays_of(rows, columns):
  """Each token is its row and column, those of prompts its group and column."""
  column_1L = np.arange(columns)[None]
  row_B1 = np.arange(len(rows.length_B))[:, None]
  is_prompt_BL = column_1L < rows.prompt_B[:, None]
  owner_BL = np.where(is_prompt_BL, -1 - rows.group_B[:, None], row_B1)
  pos_BL = np.where(column_1L < rows.length_B[:, None], column_1L, -1)
  return dict(tokens_BL=1000 * owner_BL + column_1L, pos_BL=pos_BL)


@pytest.mark.parametrize('shards', [1, 3])
@pytest.mark.parametrize('share', [False, True])
def test_every_row_is_packed_once_and_found_again(share, shards):
  rows = rows_of(share=share)
  arrays = arrays_of(rows, 104)
  widths = batching.lengths(104, 3)
  layouts = sequences.layouts(rows, 250 * shards, shards, widths)
  seen = np.concatenate([x.row_B[x.row_B >= 0] for x in layouts])
  assert sorted(seen) == list(range(24))
  for layout in layouts:
    part = sequences.with_rows(arrays, layout)
    P, T = layout.source_PT.shape
    B = len(layout.row_B) // shards
    assert T in widths and P * T <= 250 * shards and P % shards == 0
    for shard in range(shards):
      tokens_BL = part['tokens_BL'][shard * B : (shard + 1) * B]
      pos_BL = part['pos_BL'][shard * B : (shard + 1) * B]
      source_PT = np.split(layout.source_PT, shards)[shard]
      place_BL = np.split(layout.place_BL, shards)[shard]
      packed_PT = tokens_BL.ravel()[source_PT]
      np.testing.assert_array_equal(place_BL >= 0, pos_BL >= 0)
      found_BL = packed_PT.ravel()[place_BL]
      np.testing.assert_array_equal(
        found_BL[pos_BL >= 0], tokens_BL[pos_BL >= 0]
      )


def test_rows_of_a_group_repeat_the_last_token_of_the_prompt_they_share():
  rows = Rows(
    length_B=np.array([5, 4, 6]),
    prompt_B=np.array([3, 3, 2]),
    group_B=np.array([0, 0, 1]),
  )
  (layout,) = sequences.layouts(rows, 16, 1, [16])
  assert layout.row_B[:4].tolist() == [2, 0, 1, -1]
  a, b = np.arange(5) + 16, np.arange(2, 4) + 32
  assert layout.source_PT[0, :13].tolist() == [*range(6), *a, *b]
  assert layout.place_BL[2, :4].tolist() == [6, 7, 8, 12]
  assert layout.source_PT[0, 13:].tolist() == [-1] * 3
  assert sequences.real_tokens(layout.source_PT) == 12


def test_arrays_of_packed_tokens_have_every_token_of_their_shard():
  rows = rows_of(share=False)
  arrays = arrays_of(rows, 104)
  for layout in sequences.layouts(rows, 300, 2, [104]):
    packed = sequences.packed(arrays, layout, 2)
    part = sequences.with_rows(arrays, layout)
    for found, want in (
      (np.split(packed[name], 2), np.split(part[name], 2))
      for name in ('tokens_BL', 'pos_BL')
    ):
      for found_PT, want_BL, pos_PT, pos_BL in zip(
        found,
        want,
        np.split(packed['pos_BL'], 2),
        np.split(part['pos_BL'], 2),
      ):
        assert sorted(found_PT[pos_PT >= 0]) == sorted(want_BL[pos_BL >= 0])


@pytest.mark.parametrize('shards, budget', [(1, 16), (8, 16), (64, 256)])
def test_little_of_lognormal_lengths_is_padding_and_shapes_are_few(
  shards, budget
):
  """Responses of a mean of 700 tokens of at most 4,096, sigma 1."""
  shapes, widths = set(), batching.lengths(4296, 4)
  for seed in range(3):
    random = np.random.default_rng(seed)
    response_B = random.lognormal(
      np.log(700) - 0.5, 1, 512 * max(1, shards // 8)
    )
    length_B = 150 + np.clip(response_B, 8, 4096).astype(int)
    rows, computed = sequences.unshared(length_B), 0
    for layout in sequences.layouts(rows, budget * 4296, shards, widths):
      computed += layout.source_PT.size
      shapes.add(layout.source_PT.shape)
    assert 1 - length_B.sum() / computed < 0.05
  assert len(shapes) <= 4 * (1 + np.log2(budget))


def test_rows_of_one_length_fill_their_columns():
  rows = sequences.unshared(np.full(8, 24))
  layouts = sequences.layouts(rows, 64, 1, [16, 32, 48])
  assert [x.source_PT.shape for x in layouts] == [(1, 48)] * 4


def test_a_budget_below_a_row_is_refused():
  rows = sequences.unshared(np.array([5, 30]))
  with pytest.raises(errors.UserError, match='40, 20 for each of 2.*least 60'):
    sequences.layouts(rows, 40, 2, [30])
  assert sequences.layouts(rows, 60, 2, [64])[0].source_PT.shape == (2, 30)
