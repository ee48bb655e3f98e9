"""Distillation: SFT of the student on responses of R1 (R1, B.4.3)."""

from experiments.mini_r1 import dev3
from experiments.mini_r1.base import ROOT


def get_config():
  config = dev3.get_config()
  config.init = f'{ROOT}/student_base/model'
  config.data = f'{ROOT}/sample_r1/records.jsonl'
  return config
