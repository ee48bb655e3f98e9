"""Llama-3.1-8B, two of its eight key heads a chip."""

from experiments.pods import rows_4k


def get_config():
  config = rows_4k.get_config()
  config.init = 'meta-llama/Llama-3.1-8B'
  config.parallel.model = 4
  config.micro = 128
  config.sample.slots = 32
  return config
