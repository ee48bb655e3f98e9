"""R1-Zero's first 40 updates, for the ablations of GRPO to change."""

from experiments.mini_r1 import zero


def get_config():
  config = zero.get_config()
  config.steps = 40
  config.eval.every = 40
  return config
