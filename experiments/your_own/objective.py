"""SAPO's objective (Gao et al. 2025): a sigmoid of width 1/tau around ratio 1
in place of the clip. Its option: config.grpo.objective_options.tau=1.0"""

import jax
import jax.numpy as jnp


def soft_clip(logp_BL, old_BL, adv_BL, weight_BL, tau):
  ratio_BL = jnp.exp(logp_BL - old_BL)
  gate_BL = jax.nn.sigmoid(tau * (ratio_BL - 1))
  return 4 / tau * gate_BL * adv_BL, dict(gate=gate_BL)
