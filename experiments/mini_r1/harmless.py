"""The harmlessness reward model: labels, on the whole response (R1, B.3.1)."""

from experiments.mini_r1 import helpful
from experiments.mini_r1.base import ROOT


def get_config():
  config = helpful.get_config()
  config.data = f'{ROOT}/data/judged.jsonl'
  config.kind = 'pointwise'
  config.part = 'response'
  config.epochs = 8
  return config
