"""Rejection sampling from the checkpoint of Dev2, mixed with records that need
no reasoning (R1, B.3.3)."""

from experiments.mini_r1 import sample_zero
from experiments.mini_r1.base import ROOT


def get_config():
  config = sample_zero.get_config()
  config.init = f'{ROOT}/dev2/model'
  config.data = f'{ROOT}/data/rejection_sampling.jsonl'
  config.mix = f'{ROOT}/data/non_reasoning.jsonl'
  config.filters.language = 0.95
  return config
