"""Qwen2.5-1.5B on Colab's v6e-1: one TPU chip of 32 GB."""

from experiments.hardware import colab_v5e


def get_config():
  config = colab_v5e.get_config()
  config.init = 'Qwen/Qwen2.5-1.5B'
  return config
