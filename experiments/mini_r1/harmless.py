"""The harmlessness reward model: labels of whole responses (R1, B.3.1)."""

from experiments.mini_r1 import helpful
from experiments.mini_r1.base import ROOT


def get_config():
  config = helpful.get_config()
  config.data = f'{ROOT}/data/safety_labels.jsonl'
  config.kind = 'pointwise'
  config.part = 'response'
  config.epochs = 8
  return config
