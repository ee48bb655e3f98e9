"""One GPU of 24 GB: RTX 3090, RTX 4090, L4."""

from experiments.hardware import small


def get_config():
  config = small.get_config()
  config.grpo.prompts_per_step = 32
  config.sample.max_new_tokens = 1024
  config.sample.decode_slots = 128
  return config
