"""Qwen3-30B-A3B, with 32 of its 128 experts on each chip; on v5e:16x16 with 16,
by parallel.tensor_parallel=8."""

from experiments.pods import rows_4k


def get_config():
  config = rows_4k.get_config()
  config.init = 'Qwen/Qwen3-30B-A3B'
  config.parallel.tensor_parallel = 4
  config.micro_batch_size = 64
  config.sample.decode_slots = 32
  return config
