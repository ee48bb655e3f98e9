"""Loss and gradients of families beside Llama do not depend on the devices."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from r1jax import losses
from r1jax.distributed import device_placement, programs
from r1jax.models import gqa, rope, token_logprobs, transformer
from r1jax.models.families import gemma, olmo2
from r1jax.training import train_step

SIZES = dict(vocab_size=28, width=16, layers=2, heads=12, kv_heads=4, ffn=20)
SHARED = dict(kv_heads=1)  # by two devices
KINDS = gqa.LayerKind(rope.Rope(30.0), window=3), gqa.LayerKind(rope.Rope())
CFGS = dict(
  olmo2=olmo2.Config(**SIZES, head_dim=6, head_chunk=4, qk_norm_heads=True),
  gemma=gemma.Config(
    **SIZES,
    head_dim=6,
    head_chunk=4,
    query_scalar=7,
    score_softcap=1.5,
    final_softcap=2.5,
    qk_norm=True,
    kinds=KINDS,
    kind_N=(0, 1),
  ),
)
LENGTHS = np.array([8, 3, 6, 5])


def loss_fn(cfg, params, batch):
  logp_BL, _ = token_logprobs.logprobs(
    params, cfg, batch['tokens'], batch['pos']
  )
  return losses.sft_loss(logp_BL, batch['weight'])


def results(cfg, devices, tensor_parallel):
  """(loss, gradients) on so many devices."""
  config = device_placement.ParallelConfig(
    strategy='mesh', tensor_parallel=tensor_parallel
  )
  placement = device_placement.placement(config, jax.devices()[:devices])
  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  noise = np.random.default_rng(0).standard_normal
  params = jax.tree.map(lambda a: np.float32(0.3 * noise(a.shape)), shapes)
  cfg, tx = programs.shard_config(placement, cfg), optax.sgd(1.0)
  updates = train_step.update_programs(
    placement, functools.partial(loss_fn, cfg), tx
  )
  column_L = np.arange(8)
  pos_BL = np.where(column_L < LENGTHS[:, None], column_L, -1)
  batch = dict(
    tokens=np.random.default_rng(1).integers(0, 28, (4, 8)),
    pos=pos_BL,
    weight=np.float32((pos_BL > 0) / (pos_BL > 0).sum()),
  )
  state = train_step.create_state(placement, params, tx)
  state, sums = train_step.update(placement, updates, state, [batch])
  new = jax.device_get(state.params)
  return float(sums['loss']), jax.tree.map(np.subtract, params, new)


@pytest.mark.parametrize(
  'family, changes',
  [
    ('olmo2', SHARED),
    pytest.param('olmo2', {}, marks=pytest.mark.slow),
    pytest.param('gemma', {}, marks=pytest.mark.slow),
    pytest.param('gemma', SHARED, marks=pytest.mark.slow),
  ],
)
def test_loss_and_gradients_do_not_depend_on_the_devices(family, changes):
  cfg = dataclasses.replace(CFGS[family], **changes)
  loss, grads = results(cfg, 1, 1)
  sharded = dataclasses.replace(cfg, scan_layers=False)
  got, got_grads = results(sharded, 4, 2)
  np.testing.assert_allclose(got, loss, rtol=1e-6)
  for a, b in zip(*map(jax.tree.leaves, (got_grads, grads)), strict=True):
    assert np.abs(b).max() > 1e-5
    near = 1e-5 * max(np.abs(b).max(), 0.1)
    np.testing.assert_allclose(a, b, rtol=0, atol=near)
