"""Gemma-3-1B on Colab's v5e-1: one TPU chip of 16 GB, for which the moments of
AdamW are bfloat16."""

from experiments.hardware import colab_v5e


def get_config():
  config = colab_v5e.get_config()
  config.init = 'google/gemma-3-1b-it'
  config.prompt.template = 'chat'
  config.micro_batch_size = 4
  config.optim.moments_dtype = 'bfloat16'
  return config
