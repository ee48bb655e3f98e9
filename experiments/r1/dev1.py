"""Dev1, the cold start: SFT of the base model on thousands of readable thoughts
(R1, 2.3.1 and B.4.2).

The batch size of 128 and the cosine schedule from 5e-5 to 5e-6 are the defaults
of the stage. Of the paper's 2 to 3 epochs it takes 3, since there are few
records.
"""

from experiments import base
from experiments.r1 import BASE, COMPUTE, PARALLEL, PROMPT, ROOT


def get_config():
  config = base.get_config('sft')
  config.init = BASE
  config.data = f'{ROOT}/cold_start.jsonl'
  config.epochs = 3
  config.max_len = 32_768
  config.prompt.update(PROMPT)
  config.compute.update(COMPUTE)
  config.parallel.update(PARALLEL)
  return config
