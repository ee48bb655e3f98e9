"""Kaggle's v5e-8: eight TPU chips of 16 GB each, with Gemma-3-1B."""

from experiments.hardware import small


def get_config():
  config = small.get_config()
  config.init = 'google/gemma-3-1b-it'
  config.prompt.template = 'chat'
  config.micro_batch_size = 16
  config.sample.max_new_tokens = 1024
  config.sample.kv_windows = 1
  config.grpo.prompts_per_step = 32
  config.grpo.group_size = 16
  config.parallel.strategy = 'mesh'
  return config
