"""Qwen2.5-1.5B without tensor parallelism."""

from experiments.pods import rows_4k


def get_config():
  config = rows_4k.get_config()
  config.init = 'Qwen/Qwen2.5-1.5B'
  config.grpo.prompts_per_step = 512
  config.grpo.minibatches = 2  # of 256 prompts, one a chip
  config.micro_batch_size = 256
  config.sample.decode_slots = 16
  return config
