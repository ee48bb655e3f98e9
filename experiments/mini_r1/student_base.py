"""The student's base model: the same corpus, two fifths of the parameters."""

from experiments.mini_r1 import base


def get_config():
  config = base.get_config()
  config.scratch.width = 64
  config.scratch.ffn = 128
  return config
