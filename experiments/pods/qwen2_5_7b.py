"""Qwen2.5-7B, each of its four key heads on a chip of its own."""

from experiments.pods import rows_4k


def get_config():
  config = rows_4k.get_config()
  config.init = 'Qwen/Qwen2.5-7B'
  config.parallel.model = 4
  config.micro = 128
  config.sample.slots = 32
  return config
