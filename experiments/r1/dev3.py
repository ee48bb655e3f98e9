"""Dev3: SFT of the base model (not of Dev2) on the 800k records (R1, B.4.2).

Of the paper's 2 to 3 epochs it takes 2: 12,574 updates of 128 rows.
"""

from experiments.r1 import ROOT, dev1


def get_config():
  config = dev1.get_config()
  config.data = f'{ROOT}/sample_dev2/records.jsonl'
  config.epochs = 2
  return config
