"""Llama-3.1-8B, with two of its eight key heads on each chip."""

from experiments.pods import rows_4k


def get_config():
  config = rows_4k.get_config()
  config.init = 'meta-llama/Llama-3.1-8B'
  config.parallel.tensor_parallel = 4
  config.micro_batch_size = 128
  config.sample.decode_slots = 32
  return config
