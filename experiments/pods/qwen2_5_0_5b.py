"""Qwen2.5-0.5B under pmap, the default: a replica on each chip. Its heads have
64 channels."""

from experiments.pods import rows_4k


def get_config():
  config = rows_4k.get_config()
  config.init = 'Qwen/Qwen2.5-0.5B'
  config.parallel.strategy = 'pmap'
  config.grpo.prompts_per_step = 32
  config.micro_batch_size = 8
  config.sample.decode_slots = 16
  return config
