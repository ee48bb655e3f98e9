"""R1: the second RL run, from Dev3 and with another seed (R1, 3.2.2)."""

from experiments.word_problems import ROOT, dev2


def get_config():
  config = dev2.get_config()
  config.init = f'{ROOT}/dev3/model'
  config.seed = 1
  return config
