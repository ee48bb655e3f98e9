"""An objective as a user would write it: the surrogate of GRPO."""

import jax.numpy as jnp


def clipped(logp_BL, old_BL, adv_BL, weight_BL, clip_low, clip_high):
  ratio_BL = jnp.exp(logp_BL - old_BL)
  bounded_BL = jnp.clip(ratio_BL, 1 - clip_low, 1 + clip_high)
  surrogate_BL = jnp.minimum(ratio_BL * adv_BL, bounded_BL * adv_BL)
  return surrogate_BL, dict(clip_fraction=surrogate_BL < ratio_BL * adv_BL)
