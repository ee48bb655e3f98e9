"""Correct and readable responses of R1, for the distilled student (R1, 2.4)."""

from experiments.mini_r1 import sample_dev2
from experiments.mini_r1.base import ROOT


def get_config():
  config = sample_dev2.get_config()
  config.init = f'{ROOT}/r1/model'
  config.data = f'{ROOT}/data/problems.jsonl'
  config.samples = 2
  config.prompts_per_chunk = 512
  return config
