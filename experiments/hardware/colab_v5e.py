"""Colab's v5e-1: one TPU chip of 16 GB."""

from experiments.hardware import small


def get_config():
  config = small.get_config()
  config.sample.kv_windows = 1
  config.parallel.strategy = 'mesh'
  return config
