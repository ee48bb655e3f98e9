"""SFT of the base on the sampled reasoning and the rest (R1, B.4.2)."""

from experiments.mini_r1 import dev1
from experiments.mini_r1.base import ROOT


def get_config():
  config = dev1.get_config()
  config.data = f'{ROOT}/sample_dev2/records.jsonl'
  config.max_len = 30  # a prompt, 20 tokens that RL allows, the end
  return config
