"""Updates in which the responses of a group share their prompt: when they do,
which rows a micro-batch has, and that the numbers stay the same."""

import dataclasses

import jax
import numpy as np
import optax
import own_objective
import pytest
import toy_model

from r1jax import errors, user_code
from r1jax.distributed import device_placement, programs
from r1jax.models.families import llama
from r1jax.models.packing import Packing
from r1jax.rl import advantages, grpo, grpo_config, micro_batches
from r1jax.rl.micro_batches import Cutting
from r1jax.sampling import decode
from r1jax.training import train_step

PROMPTS, G, PROMPT_WIDTH, MAX_NEW = 2, 4, 6, 5
CFG = llama.Config(
  vocab_size=28,
  width=16,
  layers=1,
  heads=8,
  kv_heads=4,
  head_dim=6,
  ffn=20,
  head_chunk=3,
  scan_layers=False,
)
C = grpo_config.GrpoConfig(
  prompts_per_step=PROMPTS,
  group_size=G,
  share_prompts='on',
  kl_coef=0.1,
  entropy_bonus=0.2,
  clip_low=0.02,
  clip_high=0.02,
  objective=user_code.name_of(own_objective.clipped),
)
CUTTING = Cutting(
  micro_batch_size=8,
  length_buckets=1,
  prompt_width=PROMPT_WIDTH,
  num_shards=1,
)


def batch_of(prompt_length_P=(6, 3), length_B=(5, 1, 3, 2, 4, 5, 5, 1)):
  """A rollout's batch, as update() takes it."""
  random, prompts = np.random.default_rng(0), len(prompt_length_P)
  columns = max(prompt_length_P) + max(length_B)
  shape = len(length_B), columns
  start_B1 = np.repeat(prompt_length_P, len(length_B) // prompts)[:, None]
  end_B1 = start_B1 + np.array(length_B)[:, None]
  column_1L = np.arange(columns)[None]
  ids_PL = random.integers(0, 28, (prompts, columns))
  prompt_BL = np.repeat(ids_PL, len(length_B) // prompts, axis=0)
  is_before_BL = column_1L < start_B1
  tokens_BL = np.where(is_before_BL, prompt_BL, random.integers(0, 28, shape))
  rows = decode.SampledRows(
    tokens_BL=tokens_BL * (column_1L < end_B1),
    pos_BL=np.where(column_1L < end_B1, column_1L, -1),
    logp_BL=-3 + random.standard_normal(shape).astype('f'),
    mask_BL=~is_before_BL & (column_1L < end_B1),
    finished_B=np.ones(shape[0], bool),
    steps=None,
    live=None,
  )
  learn_B = np.arange(shape[0]) != 1  # one row is not in the loss
  adv_B = random.standard_normal(shape[0]).astype('f')
  return advantages.add(grpo.columns(rows), adv_B, learn_B)


@pytest.mark.parametrize(
  'prompt_length, length_B, is_packed',
  [
    (30, (20, 20, 20, 20), True),
    (3, (20, 20, 20, 20), False),
    (30, (20, 1, 1, 1), True),
    (10, (90, 1, 1, 1), False),
  ],
  ids=['long', 'short', 'long and uneven', 'uneven'],
)
def test_rows_are_packed_where_that_saves_tokens(
  prompt_length, length_B, is_packed
):
  config = dataclasses.replace(C, share_prompts='auto')
  batch = batch_of((prompt_length,), length_B)
  cutting = CUTTING._replace(
    micro_batch_size=2, length_buckets=10, prompt_width=prompt_length
  )
  packing = micro_batches.choose_packing(config, batch, cutting)
  assert packing == (Packing(prompt_length, 2) if is_packed else None)


def test_packed_rows_have_the_number_of_responses_with_the_fewest_tokens():
  """Of two groups whose responses are all long, and of two with a long one
  each: 2 (30 + 2 * 2) + 2 (30 + 2 * 20) tokens are less than 2 (30 + 4 * 20)."""
  cutting = CUTTING._replace(
    micro_batch_size=4, length_buckets=10, prompt_width=30
  )
  for length_B, responses in ((20, 20, 20, 20), 4), ((20, 1, 1, 1), 2):
    batch = batch_of((30, 30), 2 * length_B)
    packing = micro_batches.choose_packing(C, batch, cutting)
    assert packing == Packing(30, responses)


def test_rows_are_not_packed_where_they_cannot_be():
  batch = batch_of()
  for changes, cutting in (
    (dict(share_prompts='off'), CUTTING),
    (dict(mtp_coef=0.1), CUTTING),
    (dict(), CUTTING._replace(micro_batch_size=3)),
    (dict(), CUTTING._replace(num_shards=8)),
  ):
    config = dataclasses.replace(C, **changes)
    assert micro_batches.choose_packing(config, batch, cutting) is None
  with pytest.raises(errors.UserError, match='share_prompts=auto'):
    grpo_config.check(dataclasses.replace(C, mtp_coef=0.1), 'float32')
  grpo_config.check_counts(C, 1, 4, 2)
  with pytest.raises(errors.UserError, match='has 1 of the rows'):
    grpo_config.check_counts(C, 1, 2, 2)


@pytest.mark.parametrize(
  'rows, shards, responses', [(8, 1, 4), (4, 1, 4), (2, 1, 2), (8, 4, 2)]
)
def test_a_packed_row_has_members_of_one_group_and_every_row_is_in_one(
  rows, shards, responses
):
  batch = batch_of()
  cutting = CUTTING._replace(micro_batch_size=rows, num_shards=shards)
  packing = micro_batches.choose_packing(C, batch, cutting)
  assert packing == Packing(PROMPT_WIDTH, responses)
  parts = micro_batches.cut(C, batch, cutting, packing)
  seen = np.concatenate([row_B for row_B, _ in parts])
  assert sorted(seen) == list(range(PROMPTS * G))
  groups = seen.reshape(-1, responses) // G
  assert (groups == groups[:, :1]).all()
  for row_B, part in parts:
    assert part['tokens_BL'].shape == (rows, PROMPT_WIDTH + MAX_NEW)
    np.testing.assert_array_equal(part['prompt_BL'], batch['prompt_BL'][row_B])


def test_padding_is_the_share_of_computed_tokens_that_are_none():
  """18 prompt tokens and 26 of responses, of rows of 11 columns; packed rows
  have 6 columns for a prompt and 5 for each response."""
  batch = batch_of()
  for packing, real, computed in (
    (None, 36 + 26, 8 * 11),
    (Packing(6, 4), 9 + 26, 2 * (6 + 4 * 5)),
    (Packing(6, 2), 18 + 26, 4 * (6 + 2 * 5)),
  ):
    parts = micro_batches.cut(C, batch, CUTTING, packing)
    found = micro_batches.padding([part for _, part in parts])
    assert found == pytest.approx(1 - real / computed)


def update(
  config, rows, devices=1, strategy='pmap', tensor_parallel=1, tokens=0
):
  """(changes of the parameters by SGD, sums) of an update, whose old and
  reference log-probabilities are computed in the same form."""
  placement = device_placement.placement(
    device_placement.ParallelConfig(
      strategy=strategy, tensor_parallel=tensor_parallel
    ),
    jax.devices()[:devices],
  )
  cutting = CUTTING._replace(
    micro_batch_size=rows, num_shards=placement.num_shards, tokens=tokens
  )
  batch = batch_of()
  packing = micro_batches.choose_packing(config, batch, cutting)
  assert bool(packing) == (config.share_prompts == 'on' and not tokens)
  parts = micro_batches.cut(config, batch, cutting, packing)
  params = toy_model.random_params(CFG, 0.3)
  program = grpo.logprobs_program(placement, CFG, 0.8)
  state_params = device_placement.put_state(placement, params)
  logp_BL = grpo.compute_logprobs(
    placement, program, state_params, parts, batch['tokens_BL'].shape
  )
  batch['old_BL'] = logp_BL - np.float32(0.05) * batch['adv_BL']
  batch['ref_BL'] = logp_BL - np.float32(0.2)
  (mini_batch,) = grpo.mini_batches(config, batch, (0, 0), MAX_NEW)
  parts = micro_batches.cut(config, mini_batch, cutting, packing)
  cfg, tx = programs.shard_config(placement, CFG), optax.sgd(1.0)
  loss_fn = grpo.make_loss(config, cfg, 0.8)
  compiled = train_step.update_programs(placement, loss_fn, tx)
  state = train_step.create_state(placement, params, tx)
  arrays = [part for _, part in parts]
  state, sums = train_step.update(placement, compiled, state, arrays)
  new, sums = jax.device_get((state.params, sums))
  return jax.tree.map(np.subtract, params, new), sums


OFF = dataclasses.replace(C, share_prompts='off')


@pytest.fixture(scope='module')
def repeated():
  return update(OFF, 8)


@pytest.mark.parametrize(
  'rows, devices, strategy, tensor_parallel',
  [(4, 2, 'pmap', 1), (8, 4, 'mesh', 2)],
  ids=['halves of groups on two devices', 'groups on a mesh'],
)
def test_an_update_is_that_of_rows_with_a_prompt_each(
  rows, devices, strategy, tensor_parallel, repeated
):
  """Gradients and metrics of an objective of the user's, a KL and an entropy."""
  check_same(update(C, rows, devices, strategy, tensor_parallel), repeated)


@pytest.mark.parametrize(
  'config, layout',
  [(C, (2, 'pmap')), (OFF, (4, 'mesh', 2))],
  ids=['shared prompts on two devices', 'whole rows on a mesh'],
)
def test_an_update_of_rows_one_after_another_is_that_of_rows(
  config, layout, repeated
):
  """Micro-batches have a packed row of 11 columns on each of two shards."""
  check_same(update(config, 8, *layout, tokens=22), repeated)


def check_same(found, repeated):
  (gradients, sums), (want_gradients, want) = found, repeated
  assert 0.1 < want['clip_fraction'] < 0.9 and want['kl'] > 0.01
  leaves, want_leaves = map(jax.tree.leaves, (gradients, want_gradients))
  largest = max(np.abs(leaf).max() for leaf in want_leaves)
  for a, b in zip(leaves, want_leaves, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * largest)
  assert sums.keys() == want.keys()
  for name in want:
    np.testing.assert_allclose(
      sums[name], want[name], rtol=1e-5, atol=1e-6, err_msg=name
    )


def test_packed_micro_batches_are_filled_with_empty_rows():
  batch = {name: a[:4] for name, a in batch_of().items()}
  (row_B, part), *more = micro_batches.cut(C, batch, CUTTING, Packing(6, 4))
  assert (
    not more
    and row_B.tolist() == [-1] * 4 + [1, 3, 2, 0]
    or (row_B.tolist() == [1, 3, 2, 0] + [-1] * 4)
  )
  assert (part['pos_BL'][row_B < 0] == -1).all()
  assert not part['prompt_BL'][row_B < 0].any()
