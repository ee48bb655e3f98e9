"""Qwen2.5-32B, with one of its eight key heads on each chip."""

from experiments.pods import rows_4k


def get_config():
  config = rows_4k.get_config()
  config.init = 'Qwen/Qwen2.5-32B'
  config.parallel.tensor_parallel = 8
  config.micro_batch_size = 64
  config.sample.decode_slots = 16
  return config
