"""Dev3: SFT of the base model on the records of rejection sampling (R1,
B.4.2)."""

from experiments.mini_r1 import dev1
from experiments.mini_r1.base import ROOT


def get_config():
  config = dev1.get_config()
  config.data = f'{ROOT}/sample_dev2/records.jsonl'
  config.max_len = 30  # prompt, 20 sampled tokens, end token
  return config
