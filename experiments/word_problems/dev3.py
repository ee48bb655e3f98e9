"""Dev3: SFT of the base model on the records of rejection sampling (R1,
B.3.3)."""

from experiments.word_problems import ROOT, dev1


def get_config():
  config = dev1.get_config()
  config.data = f'{ROOT}/sample_dev2/records.jsonl'
  return config
