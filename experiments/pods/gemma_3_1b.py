"""Gemma-3-1B on a small TPU."""

from experiments.pods import small


def get_config():
  config = small.get_config()
  config.init = 'google/gemma-3-1b-it'
  config.prompt.template = 'chat'
  return config
