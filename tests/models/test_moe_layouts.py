"""Experts that are divided among devices give the loss, gradients, load and
correction bias of one device, however the batch is cut."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from r1jax import errors, losses
from r1jax.distributed import device_placement, programs
from r1jax.models import (
  expert_rounds,
  gqa,
  moe,
  moe_config,
  token_logprobs,
  transformer,
)
from r1jax.models.families import qwen3_moe
from r1jax.training import optimizer, train_step

CFG = qwen3_moe.Config(
  vocab_size=28,
  width=16,
  layers=3,
  heads=8,
  kv_heads=2,
  head_dim=8,
  qk_norm=True,
  kinds=(gqa.LayerKind(),),
  dense_ffn=20,
  dense_numbers=(1,),
  qkv_bias=True,
  out_bias=True,
  sinks=True,
  tie_embeddings=False,
  head_chunk=4,
  moe=moe.MoeConfig(
    experts=12,
    experts_per_token=5,
    ffn=10,
    score='sigmoid',
    normalize=True,
    scale=2.5,
    groups=4,
    top_groups=2,
    correction_bias=True,
    shared_ffn=8,
    linear_bias=True,
    activation=moe_config.Activation(alpha=1.7, limit=2.0, up_offset=1.0),
  ),
)
RATE = 0.01
LENGTH_B1 = np.array([[12], [7], [10], [4], [9], [11], [3], [8]])
MESH = dict(strategy='mesh', devices=4, tensor_parallel=2)
# Rows of a round over their mean number: several rounds, and one with room for
# all rows of a pair of devices.
SMALL_ROUNDS, LARGE_ROUNDS = 0.3, 9.0
QUICK = dict(
  mesh_2_data_2_model=MESH,
)
SLOW = dict(
  gathered_in_rounds=MESH | dict(slack=SMALL_ROUNDS),
  exchanged_in_rounds=MESH | dict(slack=SMALL_ROUNDS, is_exchanged=True),
  gathered_on_4=MESH | dict(tensor_parallel=4, slack=SMALL_ROUNDS),
  exchanged_on_4=MESH
  | dict(tensor_parallel=4, slack=SMALL_ROUNDS, is_exchanged=True),
  exchanged_on_4_in_a_round=MESH
  | dict(tensor_parallel=4, slack=LARGE_ROUNDS, is_exchanged=True, count=2),
  exchanged_with_cpu_layout=MESH
  | dict(slack=SMALL_ROUNDS, is_exchanged=True, cpu_layout=True),
  exchanged_with_remat=MESH
  | dict(slack=SMALL_ROUNDS, is_exchanged=True, remat='full'),
  gathered_with_remat=MESH | dict(slack=SMALL_ROUNDS, remat='dots'),
  mesh_2_data_2_model_micro_batches=dict(
    strategy='mesh', devices=4, tensor_parallel=2, count=2
  ),
  micro_batches=dict(count=4),
  cpu_layout=dict(cpu_layout=True),
  pmap_4=dict(devices=4),
  pmap_2_micro_batches=dict(devices=2, count=2),
  mesh_4_data=dict(strategy='mesh', devices=4),
  mesh_4_model=dict(strategy='mesh', devices=4, tensor_parallel=4),
  mesh_2_model_whole_rows=dict(
    strategy='mesh', devices=2, tensor_parallel=2, width=13
  ),
  mesh_2_slices_micro_batches=dict(
    strategy='mesh', devices=4, tensor_parallel=2, slices=2, count=2
  ),
)


@functools.cache
def make_params(cfg=CFG):
  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  random = np.random.default_rng(0)
  return jax.tree.map(
    lambda a: np.float32(0.3 * random.standard_normal(a.shape)), shapes
  )


def loss_fn(cfg, params, batch):
  pos_BL = batch['pos_BL']
  out = token_logprobs.logprobs_and_routing(
    params, cfg, batch['tokens_BL'], pos_BL
  )
  loss, sums = losses.sft_loss(out.logp_BL, batch['weight_BL'])
  return loss, sums | moe.load_sums(cfg, out.routing, pos_BL)


def micro_batches(count, width):
  column_1L = np.arange(width)[None]
  random = np.random.default_rng(1)
  batch = dict(
    tokens_BL=np.pad(
      random.integers(0, 26, (8, 12)), ((0, 0), (0, width - 12))
    ),
    pos_BL=np.where(column_1L < LENGTH_B1, column_1L, -1),
    weight_BL=np.float32((column_1L > 0) & (column_1L < LENGTH_B1)) / 56,
  )
  parts = {name: np.split(a, count) for name, a in batch.items()}
  return [{k: a[i] for k, a in parts.items()} for i in range(count)]


def results(
  strategy='pmap',
  devices=1,
  tensor_parallel=1,
  slices=1,
  count=1,
  width=12,
  cpu_layout=False,
  remat='none',
  rate=RATE,
  cfg=CFG,
  params=None,
):
  """(gradients, correction bias, sums) after one update by SGD."""
  placement = device_placement.placement(
    device_placement.ParallelConfig(
      strategy=strategy, tensor_parallel=tensor_parallel, slices=slices
    ),
    jax.devices()[:devices],
  )
  cfg = dataclasses.replace(cfg, cpu_layout=cpu_layout, remat=remat)
  made = make_params(cfg) if params is None else params
  cfg = programs.shard_config(placement, cfg)
  tx = optax.sgd(1.0)
  updates = train_step.update_programs(
    placement, functools.partial(loss_fn, cfg), tx, rate
  )
  state = train_step.create_state(placement, made, tx)
  batches = micro_batches(count, width)
  state, sums = train_step.update(placement, updates, state, batches)
  params, sums = jax.device_get((state.params, sums))
  bias_NE = params['layers'].pop(moe.BIAS)
  before = train_step.trained(made)
  return jax.tree.map(np.subtract, before, params), bias_NE, sums


@pytest.fixture(scope='module')
def plain():
  return results()


def check(
  want, strategy='pmap', slack=0.0, is_exchanged=False, atol=1e-6, **layout
):
  """Compares with the results of another layout. `slack` sets the capacities of
  expert_rounds."""
  with pytest.MonkeyPatch.context() as patch:
    if slack:
      for name in 'SLACK', 'SENT_SLACK':
        patch.setattr(expert_rounds, name, slack)
      for name in 'TILE', 'SENT_TILE':
        patch.setattr(expert_rounds, name, 1)
    patch.setattr(expert_rounds, 'is_exchanged', lambda *_: is_exchanged)
    grads, bias_NE, sums = results(strategy, **layout)
  want_grads, want_bias_NE, want_sums = want
  assert np.abs(sums['loss'] - want_sums['loss']) < atol
  np.testing.assert_array_equal(sums[moe.LOAD], want_sums[moe.LOAD])
  np.testing.assert_array_equal(bias_NE, want_bias_NE)
  for a, b in zip(*map(jax.tree.leaves, (grads, want_grads)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize('name', QUICK)
def test_gradients_load_and_bias_do_not_depend_on_the_layout(name, plain):
  check(plain, **QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize('name', SLOW)
def test_gradients_load_and_bias_depend_on_no_layout(name, plain):
  check(plain, **SLOW[name])


@pytest.mark.slow
@pytest.mark.parametrize('is_exchanged', [False, True])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_all_tokens_may_choose_the_same_experts(dtype, is_exchanged):
  """Those of two devices of four; the others have no rows. Many rounds run."""
  layers = make_params()['layers']
  busy_E = np.float32(100 * (np.arange(12) < 5))
  bias_NE = np.broadcast_to(busy_E, layers[moe.BIAS].shape)
  params = make_params() | dict(layers=layers | {moe.BIAS: bias_NE})
  cfg = dataclasses.replace(CFG, dtype=dtype)
  want = results(cfg=cfg, params=params)
  assert (want[2][moe.LOAD] > 0).sum(axis=1).tolist() == [5, 5]
  check(
    want,
    **MESH | dict(tensor_parallel=4, slack=0.1, is_exchanged=is_exchanged),
    cfg=cfg,
    params=params,
    atol=1e-6 if dtype == 'float32' else 5e-3,
  )


def test_the_bias_moves_towards_an_even_load(plain):
  _, bias_NE, sums = plain
  load_NE = sums[moe.LOAD]
  assert load_NE.sum(axis=1).tolist() == [LENGTH_B1.sum() * 5] * 2
  before = make_params()['layers'][moe.BIAS]
  sign = np.sign(load_NE.mean(axis=1, keepdims=True) - load_NE)
  assert set(np.unique(sign)) >= {-1, 1}
  np.testing.assert_allclose(bias_NE - before, RATE * sign, atol=1e-7)


@pytest.mark.slow
def test_without_a_rate_the_bias_stays_bit_identical():
  _, bias_NE, _ = results(rate=0.0)
  np.testing.assert_array_equal(bias_NE, make_params()['layers'][moe.BIAS])


def test_the_optimiser_has_no_state_of_the_bias_and_does_not_decay_it():
  params = make_params()
  tx = optax.adamw(0.1, weight_decay=0.5)
  state = train_step.init_state(params, tx)
  paths = jax.tree_util.tree_leaves_with_path(state.opt_state)
  assert not any(moe.BIAS in str(path) for path, _ in paths)
  grads = jax.tree.map(np.zeros_like, params)
  state, _ = jax.jit(train_step.apply_gradient, static_argnums=0)(
    tx, state, grads, dict(loss=0.0)
  )
  old, new = params['layers'], state.params['layers']
  np.testing.assert_array_equal(new[moe.BIAS], old[moe.BIAS])
  np.testing.assert_allclose(new['router'], 0.95 * old['router'], rtol=1e-5)


def test_a_mesh_that_does_not_divide_the_experts_is_a_user_error():
  params = make_params()
  cut = {k: a[:, :10] for k, a in params['layers'].items() if 'experts' in k}
  placement = device_placement.placement(
    device_placement.ParallelConfig(strategy='mesh', tensor_parallel=4)
  )
  with pytest.raises(
    errors.UserError, match="10 experts, .* 4 devices .*'model'"
  ):
    device_placement.put_state(placement, dict(layers=params['layers'] | cut))


def test_a_rate_for_a_model_without_correction_bias_is_a_user_error():
  config = optimizer.OptimConfig(router_bias_rate=0.1)
  optimizer.check_router_bias(config, make_params())
  params = train_step.trained(make_params())
  with pytest.raises(errors.UserError, match='no correction bias'):
    optimizer.check_router_bias(config, params)
