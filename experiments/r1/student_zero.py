"""Qwen2.5-32B-Zero, the baseline of the distilled 32B model: pure RL for more
than 10,000 updates with learning rate 2e-6 (R1, B.4.1 and F.1)."""

from experiments.r1 import zero


def get_config():
  config = zero.get_config()
  config.init = 'Qwen/Qwen2.5-32B'
  config.steps = 10_000
  config.max_new_tokens_schedule = ()
  config.optim.lr = 2e-6
  return config
