"""Correct and readable responses of R1-Zero to the prompts of the cold start,
at temperature 1 (R1, B.3.2).

The paper states "several trajectories"; the config takes 4. A model and people
rewrite the responses into the format of PROMPT, as ROOT/cold_start.jsonl.
"""

from experiments import base
from experiments.r1 import COMPUTE, PARALLEL, PROMPT, ROOT


def get_config():
  config = base.get_config('reject')
  config.init = f'{ROOT}/zero/model'
  config.data = f'{ROOT}/data/cold_start.jsonl'
  config.samples = 4
  config.prompt.max_len = PROMPT['max_len']
  config.sample.max_new_tokens = 65_536  # the last limit of R1-Zero
  config.compute.update(COMPUTE)
  config.parallel.update(PARALLEL)
  return config
