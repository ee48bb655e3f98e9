"""The helpfulness reward model: 66,000 pairs, scored on the summary alone (R1,
3.1 and B.3.1).

Batch size 256, learning rate 6e-6, one epoch and 8,192 tokens are the defaults
of the stage. The paper starts from "R1", which does not exist at this stage;
the config starts from Dev3.
"""

from experiments import base
from experiments.r1 import COMPUTE, PARALLEL, PROMPT, ROOT


def get_config():
  config = base.get_config('reward_model')
  config.init = f'{ROOT}/dev3/model'
  config.data = f'{ROOT}/data/preferences.jsonl'
  config.prompt.update(PROMPT)
  config.compute.update(COMPUTE)
  config.parallel.update(PARALLEL)
  return config
