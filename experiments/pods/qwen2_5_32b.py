"""Qwen2.5-32B, each of its eight key heads on a chip of its own."""

from experiments.pods import rows_4k


def get_config():
  config = rows_4k.get_config()
  config.init = 'Qwen/Qwen2.5-32B'
  config.parallel.tensor_parallel = 8
  config.micro_batch_size = 64
  config.sample.decode_slots = 16
  return config
