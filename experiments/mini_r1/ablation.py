"""The first 40 updates of R1-Zero, from which the ablations of GRPO differ by
one change each."""

from experiments.mini_r1 import zero


def get_config():
  config = zero.get_config()
  config.steps = 40
  config.eval.every = 40
  return config
