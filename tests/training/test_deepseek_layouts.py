"""Loss and gradients of latent attention with experts do not depend on the
devices, and neither do samples."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
import toy_deepseek

from r1jax.distributed import device_placement, programs
from r1jax.sampling import decode
from r1jax.sampling.decoder import Decoder
from r1jax.stages import sft
from r1jax.training import train_step

CFG = dataclasses.replace(toy_deepseek.CFG, mtp_layers=1, keep_mtp=True)
LENGTHS = np.array([8, 3, 6, 5])
LAYOUTS = dict(
  cpu_layout=dict(form=dict(cpu_layout=True)),
  unrolled_remat=dict(form=dict(scan_layers=False, remat='full')),
  pmap_2=dict(strategy='pmap', devices=2),
  mesh_4_data=dict(devices=4),
  mesh_2_data_2_model=dict(devices=4, tensor_parallel=2),
  mesh_4_model_tokens=dict(devices=4, tensor_parallel=4),
  mesh_2_model=dict(devices=2, tensor_parallel=2, length=9),
)


def placed(strategy='mesh', devices=1, tensor_parallel=1):
  config = device_placement.ParallelConfig(
    strategy=strategy, tensor_parallel=tensor_parallel
  )
  return device_placement.placement(config, jax.devices()[:devices])


def results(form=(), length=8, **layout):
  """(loss, gradients) under one layout."""
  placement = placed(**layout)
  cfg = dataclasses.replace(CFG, **dict(form))
  cfg = programs.shard_config(placement, cfg)
  params, tx = toy_deepseek.random_params(CFG), optax.sgd(1.0)
  updates = train_step.update_programs(
    placement, functools.partial(sft.loss, cfg, mtp_coef=0.3), tx
  )
  tokens_BL = np.random.default_rng(1).integers(0, 28, (4, 8))
  tokens_BL = np.pad(tokens_BL, ((0, 0), (0, length - 8)))
  column_L = np.arange(length)
  pos_BL = np.where(column_L < LENGTHS[:, None], column_L, -1)
  weight_BL = np.float32((pos_BL > 0) / (pos_BL > 0).sum())
  batch = dict(tokens_BL=tokens_BL, pos_BL=pos_BL, weight_BL=weight_BL)
  state = train_step.create_state(placement, params, tx)
  state, sums = train_step.update(placement, updates, state, [batch])
  new = jax.device_get(state.params)
  return [float(sums[x]) for x in ('loss', 'mtp_loss')], jax.tree.map(
    np.subtract, params, new
  )


@pytest.fixture(scope='module')
def plain():
  return results()


@pytest.mark.slow
@pytest.mark.parametrize('layout', LAYOUTS)
def test_loss_and_gradients_do_not_depend_on_the_layout(layout, plain):
  loss, grads = results(**LAYOUTS[layout])
  np.testing.assert_allclose(loss, plain[0], rtol=1e-6)
  assert min(loss) > 1
  assert all(np.abs(g).max() > 1e-5 for g in _with_gradient(grads))
  for a, b in zip(*map(jax.tree.leaves, (grads, plain[1])), strict=True):
    near = 1e-5 * max(np.abs(b).max(), 0.1)
    np.testing.assert_allclose(a, b, rtol=0, atol=near)


def _with_gradient(grads):
  return [
    leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
    if path[-1].key != 'router_bias'
  ]


@pytest.mark.slow
@pytest.mark.parametrize(
  'absorbed, draft', [(True, False), (False, False), (True, True)]
)
def test_samples_do_not_depend_on_the_devices(absorbed, draft):
  cfg = dataclasses.replace(CFG, absorbed=absorbed, scan_layers=False)
  config = decode.SampleConfig(max_new_tokens=6, decode_slots=2, draft=draft)
  tokens_PL = np.random.default_rng(2).integers(0, 28, (4, 5), np.int32)
  prompts = decode.Prompts(
    tokens_PL=tokens_PL,
    length_P=np.array([5, 3, 4, 2], np.int32),
    number_P=np.arange(4, dtype=np.int32),
    first_member_P=np.zeros(4, np.int32),
    max_new_tokens_P=np.full(4, 6, np.int32),
  )
  key_P2 = np.tile(jax.random.key_data(jax.random.key(5)), (4, 1))
  params, found = toy_deepseek.random_params(CFG), []
  for layout in dict(), dict(devices=4, tensor_parallel=2):
    placement = placed(**layout)
    decoder = Decoder(placement, cfg, 3, config)
    state = device_placement.put_state(placement, params)
    found.append(decoder.run(state, prompts, key_P2))
  one, four = found
  np.testing.assert_array_equal(one.tokens_BL, four.tokens_BL)
  np.testing.assert_allclose(one.logp_BL, four.logp_BL, rtol=0, atol=2e-5)
