"""A loss with an entropy bonus has the same value and gradients on one device
and on four, as replicas or as shards."""

import jax
import numpy as np
import optax
import pytest
import toy_model

from r1jax.distributed import device_placement, programs
from r1jax.models.families import llama
from r1jax.rl import grpo, grpo_config
from r1jax.training import train_step

CFG = llama.Config(
  vocab_size=28,
  width=16,
  layers=1,
  heads=8,
  kv_heads=4,
  head_dim=6,
  ffn=20,
  real_vocab=26,
  head_chunk=3,
  tie_embeddings=False,
)
GRPO = grpo_config.GrpoConfig(entropy_bonus=0.5, kl_coef=0.1)
LENGTH_B1 = np.array([[12], [7], [10], [4]])


def make_params():
  return toy_model.random_params(CFG, 0.3)


def make_batch():
  random = np.random.default_rng(1)
  column_L = np.arange(12)
  batch = {
    f'{name}_BL': random.standard_normal((4, 12)).astype('f')
    for name in ('adv', 'old', 'ref', 'sampler')
  }
  return batch | dict(
    tokens_BL=random.integers(0, 26, (4, 12)),
    pos_BL=np.where(column_L < LENGTH_B1, column_L, -1),
    weight_BL=np.float32((column_L > 2) & (column_L < LENGTH_B1)) / 20,
  )


def gradients(devices, strategy, tensor_parallel):
  """(gradients, sums) of one update by SGD with learning rate 1."""
  placement = device_placement.placement(
    device_placement.ParallelConfig(
      strategy=strategy, tensor_parallel=tensor_parallel
    ),
    jax.devices()[:devices],
  )
  loss_fn = grpo.make_loss(GRPO, programs.shard_config(placement, CFG), 0.7)
  tx = optax.sgd(1.0)
  compiled = train_step.update_programs(placement, loss_fn, tx)
  state = train_step.create_state(placement, make_params(), tx)
  state, sums = train_step.update(placement, compiled, state, [make_batch()])
  params, sums = jax.device_get((state.params, sums))
  return jax.tree.map(np.subtract, make_params(), params), sums


@pytest.fixture(scope='module')
def one_device():
  return gradients(1, 'pmap', 1)


@pytest.mark.parametrize(
  'strategy, tensor_parallel',
  [('pmap', 1), ('mesh', 1), ('mesh', 2), ('mesh', 4)],
)
def test_four_devices_give_the_same_gradients(
  strategy, tensor_parallel, one_device
):
  got = gradients(4, strategy, tensor_parallel)
  for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(one_device)):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
