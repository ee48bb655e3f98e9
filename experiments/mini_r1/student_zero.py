"""The student trained by RL alone, from the same base model and with more
compute than distillation: the report has the costs of both (R1, F.1)."""

from experiments.mini_r1 import zero
from experiments.mini_r1.base import ROOT


def get_config():
  config = zero.get_config()
  config.init = f'{ROOT}/student_base/model'
  config.steps = 120
  config.eval.every = 40
  return config
