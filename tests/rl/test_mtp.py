"""Multi-token prediction in RL: only the module learns from its loss."""

import dataclasses

import jax
import numpy as np
import pytest
import toy_deepseek

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.rl import grpo, grpo_config

CFG = dataclasses.replace(toy_deepseek.CFG, mtp_layers=1, keep_mtp=True)


@pytest.mark.slow
def test_the_loss_of_the_module_has_a_gradient_in_the_module_alone():
  random = np.random.default_rng(0)
  pos_BL = np.where(np.arange(7) < np.array([[7], [5]]), np.arange(7), -1)
  batch = dict(
    tokens_BL=random.integers(0, 28, (2, 7)),
    pos_BL=pos_BL,
    weight_BL=np.float32(pos_BL > 2) / 6,
    adv_BL=np.float32(random.standard_normal((2, 7))),
    routing=random.integers(0, 8, (2, 7, 2, 2)).astype(np.uint8),
  )
  batch['sampler_BL'] = np.zeros((2, 7), np.float32)
  params = toy_deepseek.random_params(CFG)

  @jax.jit
  def gradients(params):
    found = []
    for coef in 0.0, 0.5:
      config = grpo_config.GrpoConfig(
        kl_coef=0.0, old_logprobs='trainer', mtp_coef=coef
      )
      loss_fn = grpo.make_loss(config, CFG, 1.0)
      found.append(jax.grad(loss_fn, has_aux=True)(params, batch))
    return found

  (without, _), (with_loss, sums) = jax.device_get(gradients(params))
  assert sums['mtp_loss'] > 1
  assert all((leaf == 0).all() for leaf in jax.tree.leaves(without['mtp']))
  own = with_loss.pop('mtp')
  del without['mtp'], own['router_bias']
  assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(own))
  for a, b in zip(*map(jax.tree.leaves, (with_loss, without)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_a_model_without_the_module_cannot_learn_its_loss():
  policy.check_mtp(CFG, 0.3, 'config.mtp_coef')
  with pytest.raises(errors.UserError, match='config.mtp_coef is 0.3, but the'):
    policy.check_mtp(toy_deepseek.CFG, 0.3, 'config.mtp_coef')
