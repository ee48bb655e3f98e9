"""R1-Zero's correct and readable responses to the cold start's questions, at
temperature 1 (R1, B.3.2).

Not stated: how many "several trajectories" are (4). They are to be rewritten
into PROMPT's form, by a model and by people, and become ROOT/cold.jsonl.
"""

from experiments import base
from experiments.r1 import COMPUTE, PARALLEL, PROMPT, ROOT


def get_config():
  config = base.get_config('reject')
  config.init = f'{ROOT}/zero/model'
  config.data = f'{ROOT}/data/cold.jsonl'
  config.samples = 4
  config.prompt.max_len = PROMPT['max_len']
  config.sample.max_new_tokens = 65_536  # R1-Zero's at its end
  config.compute.update(COMPUTE)
  config.parallel.update(PARALLEL)
  return config
