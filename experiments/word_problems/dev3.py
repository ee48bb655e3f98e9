"""SFT of the base on what the reasoning RL's checkpoint found (R1, B.3.3)."""

from experiments.word_problems import ROOT, dev1


def get_config():
  config = dev1.get_config()
  config.data = f'{ROOT}/sample_dev2/records.jsonl'
  return config
