"""Qwen2.5-7B, with one of its four key heads on each chip."""

from experiments.pods import rows_4k


def get_config():
  config = rows_4k.get_config()
  config.init = 'Qwen/Qwen2.5-7B'
  config.parallel.tensor_parallel = 4
  config.micro_batch_size = 128
  config.sample.decode_slots = 32
  return config
