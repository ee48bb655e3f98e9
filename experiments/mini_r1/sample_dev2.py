"""Rejection sampling from the reasoning RL's checkpoint, mixed with records
that are no reasoning (R1, B.3.3)."""

from experiments.mini_r1 import sample_zero
from experiments.mini_r1.base import ROOT


def get_config():
  config = sample_zero.get_config()
  config.init = f'{ROOT}/dev2/model'
  config.data = f'{ROOT}/data/sampled.jsonl'
  config.mix = f'{ROOT}/data/polite.jsonl'
  config.filters.language = 0.95
  return config
