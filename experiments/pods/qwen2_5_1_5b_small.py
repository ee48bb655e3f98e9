"""Qwen2.5-1.5B on a small TPU."""

from experiments.pods import small


def get_config():
  config = small.get_config()
  config.init = 'Qwen/Qwen2.5-1.5B'
  return config
