"""Loss, metrics and gradients do not depend on micro-batches, padding, devices
or compute options, for every objective and loss_agg."""

import dataclasses
import functools
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_model

from r1jax import losses
from r1jax.distributed import device_placement, programs
from r1jax.models import token_logprobs
from r1jax.models.families import llama
from r1jax.rl import algorithm
from r1jax.training import train_step

CFG = llama.Config(
  vocab_size=28,
  width=16,
  layers=1,
  heads=12,
  kv_heads=4,
  head_dim=6,
  ffn=20,
  head_chunk=4,
  tie_embeddings=False,
  qkv_bias=True,
  qk_norm=True,
)
PROMPT = np.array([1, 4, 2, 3, 2, 5])
LENGTH = np.array([11, 6, 10, 3, 7, 9])  # prompt and response
ADV = np.array([1.3, -0.4, 0.0, -0.9, 2.0, 0.7], np.float32)
OVERLONG = 4  # the row that is filtered out
TEMPERATURE = 0.8

KL_ESTIMATORS = ['k3', 'k3_unbiased', 'k3_unbiased', 'k3', 'k3']
# The last objective is given by a path, and is that of GRPO.
OWN = str(pathlib.Path(__file__).parents[1] / 'own_objective.py') + ':clipped'
RL = list(zip([*losses.OBJECTIVES, OWN], KL_ESTIMATORS, strict=True))
CLIPS = dict(clip_low=0.2, clip_high=0.28)
LOSSES = [*RL, ('sft', None)]
LOSS_AGGS = 'seq_mean_token_mean', 'token_mean', 'seq_mean_token_sum_norm'
CHOICES = list(itertools.product(range(len(LOSSES)), LOSS_AGGS))


def loss_fn(cfg, params, batch):
  """All losses in one program. The weights [B, loss, L] select one of them."""
  logp_BL, entropy_BL = token_logprobs.logprobs(
    params, cfg, batch['tokens'], batch['pos'], TEMPERATURE
  )
  outs = []
  for i, (objective, kl_estimator) in enumerate(RL):
    outs.append(
      losses.policy_loss(
        algorithm.objective(objective, CLIPS, {}),
        logp_BL,
        batch['old'],
        batch['ref'],
        batch['adv'],
        batch['weight'][:, i],
        entropy_BL,
        kl_coef=0.3,
        kl_estimator=losses.KL_ESTIMATORS[kl_estimator],
        entropy_bonus=0.1,
      )
    )
  outs.append(losses.sft_loss(logp_BL, batch['weight'][:, -1]))
  loss = sum(out[0] for out in outs)
  entropy = jnp.sum(batch['weight'].sum(axis=1) * entropy_BL)
  return loss, dict(loss=loss, entropy=entropy, each=[out[1] for out in outs])


@functools.cache
def params():
  return toy_model.random_params(CFG, 0.3)


@functools.cache
def rows():
  """One dict a row, each of its own length. The ratios of the new policy to the
  old and the reference are on both sides of the clips."""
  random = np.random.default_rng(1)
  column_L = np.arange(11)
  tokens_BL = random.integers(0, CFG.vocab_size, (6, 11))
  pos_BL = np.where(column_L < LENGTH[:, None], column_L, -1)
  mask_BL = (column_L >= PROMPT[:, None]) & (column_L < LENGTH[:, None])
  mask_BL[OVERLONG] = False
  logp_BL, _ = toy_model.logprobs(params(), CFG, tokens_BL, pos_BL, TEMPERATURE)

  def normal(*shape):
    return 0.4 * random.standard_normal(shape).astype('f')

  def noise():
    return normal(6, 11) + normal(6, 1)

  arrays = dict(
    tokens=tokens_BL,
    pos=pos_BL,
    mask=mask_BL,
    old=logp_BL + noise(),
    ref=logp_BL + noise(),
    adv=np.repeat(ADV[:, None], 11, axis=1),
  )

  return [
    {k: np.asarray(a)[b, : LENGTH[b]] for k, a in arrays.items()}
    for b in range(6)
  ]


def padded(rows, length, side):
  """Rows of one length; the arrays are not zero on the padding."""
  fill = dict(tokens=9, pos=-1, old=-2.0, ref=-3.0, adv=5.0, weight=0.0)

  def pad(a, value):
    count = length - a.size
    widths = (0, count) if side == 'right' else (count, 0)
    return np.pad(a, widths, constant_values=value)

  return {k: np.stack([pad(r[k], fill[k]) for r in rows]) for k in fill}


def micro_batches(which, loss_agg, *, count, filler, side, extra, buckets):
  """The batch and `filler` empty rows as `count` micro-batches. They are padded
  on one side to the longest row of the batch, with `buckets` of the
  micro-batch, and by `extra` columns."""
  empty = {k: a[:0] for k, a in rows()[0].items()}
  all_rows = rows() + [empty] * filler
  if buckets:
    all_rows = sorted(all_rows, key=lambda row: row['tokens'].size)
  # The weights come from the masks of the whole batch.
  masks = [np.pad(row['mask'], (0, 11 - row['mask'].size)) for row in all_rows]
  weight_BL = np.asarray(losses.token_weights(np.stack(masks), loss_agg, 13))
  all_rows = [
    row | dict(weight=weight_L[: row['mask'].size])
    for row, weight_L in zip(all_rows, weight_BL)
  ]
  size = len(all_rows) // count
  assert size * count == len(all_rows)
  parts = []
  for i in range(0, len(all_rows), size):
    part = all_rows[i : i + size]
    width = max(row['tokens'].size for row in (part if buckets else all_rows))
    part = padded(part, width + extra, side)
    chosen = np.arange(len(LOSSES))[:, None] == which
    weight_BOL = part['weight'][:, None] * chosen
    parts.append(part | dict(weight=weight_BOL.astype('f')))
  return parts


def results(
  form=(),
  strategy='pmap',
  devices=1,
  tensor_parallel=1,
  slices=1,
  count=1,
  filler=0,
  side='right',
  extra=0,
  buckets=False,
):
  """(sums, gradients) of every choice under one layout."""
  placement = device_placement.placement(
    device_placement.ParallelConfig(
      strategy=strategy, tensor_parallel=tensor_parallel, slices=slices
    ),
    jax.devices()[:devices],
  )
  cfg = programs.shard_config(placement, dataclasses.replace(CFG, **dict(form)))
  tx = optax.sgd(1.0)
  updates = train_step.update_programs(
    placement, functools.partial(loss_fn, cfg), tx
  )
  for choice in CHOICES:
    state = train_step.create_state(placement, params(), tx)
    batches = micro_batches(
      *choice,
      count=count,
      filler=filler,
      side=side,
      extra=extra,
      buckets=buckets,
    )
    state, sums = train_step.update(placement, updates, state, batches)
    state, sums = jax.device_get((state, sums))
    yield sums, jax.tree.map(np.subtract, params(), state.params)


LAYOUTS = dict(
  two_buckets=dict(count=2, filler=2, buckets=True),
  four_micro_batches=dict(count=4, filler=2),
  micro_batches_of_one=dict(count=6),
  left_padding=dict(side='left'),
  extra_padding_in_one_chunk=dict(extra=5, form=dict(head_chunk=64)),
  chunks_of_one_and_remat=dict(form=dict(head_chunk=1, remat='full')),
  cpu_layout=dict(form=dict(cpu_layout=True)),
  pmap_2=dict(devices=2),
  pmap_4=dict(devices=4, filler=2),
  pmap_micro_batches=dict(devices=2, count=2, filler=2, side='left'),
  mesh_4_data=dict(strategy='mesh', devices=4, filler=2),
  mesh_2_data_2_model=dict(strategy='mesh', devices=4, tensor_parallel=2),
  mesh_4_model=dict(strategy='mesh', devices=4, tensor_parallel=4),
  mesh_4_model_tokens=dict(
    strategy='mesh', devices=4, tensor_parallel=4, extra=1
  ),
  mesh_2_slices=dict(strategy='mesh', devices=4, slices=2, filler=2),
  mesh_2_slices_micro_batches=dict(
    strategy='mesh', devices=4, slices=2, tensor_parallel=2, count=2, filler=2
  ),
  mesh_micro_batches=dict(
    strategy='mesh', devices=4, tensor_parallel=2, count=2, filler=2, extra=1
  ),
)


# Others contain what these test.
SLOW = (
  *('four_micro_batches', 'pmap_2', 'mesh_4_data', 'mesh_4_model'),
  'mesh_2_slices',
)


@pytest.fixture(scope='module')
def plain():
  return list(results())


@pytest.mark.parametrize(
  'layout',
  [
    pytest.param(x, marks=pytest.mark.slow if x in SLOW else ())
    for x in LAYOUTS
  ],
)
def test_loss_metrics_and_gradients_do_not_depend_on_the_layout(layout, plain):
  found = results(**LAYOUTS[layout])
  for choice, (sums, grads), (want, exact) in zip(CHOICES, found, plain):
    name = f'{LOSSES[choice[0]]} {choice[1]}'
    for a, b in zip(*map(jax.tree.leaves, (sums, want)), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)
    for a, b in zip(*map(jax.tree.leaves, (grads, exact)), strict=True):
      near = 1e-5 * max(np.abs(b).max(), 0.1)
      np.testing.assert_allclose(a, b, rtol=0, atol=near, err_msg=name)


def test_an_objective_given_by_a_path_equals_the_packages_own(plain):
  of_choice = dict(zip(CHOICES, plain))
  own = len(losses.OBJECTIVES)
  for loss_agg in LOSS_AGGS:
    (sums, grads) = of_choice[own, loss_agg]
    (want, exact) = of_choice[0, loss_agg]
    for name, value in want['each'][0].items():
      np.testing.assert_array_equal(sums['each'][own][name], value, name)
    for a, b in zip(*map(jax.tree.leaves, (grads, exact)), strict=True):
      np.testing.assert_allclose(a, b, rtol=0, atol=1e-7)


def test_the_choices_are_different_losses(plain):
  own = len(losses.OBJECTIVES)
  gradients = {
    np.abs(grads['embed']).sum().round(4)
    for (which, _), (_, grads) in zip(CHOICES, plain)
    if which != own
  }
  assert len(gradients) == len(CHOICES) - len(LOSS_AGGS)
  assert all(sums['grad_norm'] > 0.01 for sums, _ in plain)


def test_the_clip_stops_some_tokens_of_every_objective(plain):
  for (which, _), (sums, _) in zip(CHOICES, plain):
    if which < len(RL):
      each = sums['each'][which]
      assert 0.1 < each['clip_fraction'] / each['weight'] < 0.9
      assert each['kl'] > 0.01
