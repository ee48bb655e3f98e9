"""R1-Zero: pure RL on the base model with accuracy and format rewards (R1,
2.1).

The values are those of experiments/zero_paper.py. The longer responses begin at
step 8,208, with the first rollout after step 8,200: a rollout has 16 updates.
"""

from experiments import zero_paper
from experiments.r1 import BASE, PARALLEL, PROMPT, ROOT


def get_config():
  config = zero_paper.get_config()
  config.init = BASE
  config.prompts = f'{ROOT}/data/problems.jsonl'
  config.eval.data = f'{ROOT}/data/held_out.jsonl'
  config.prompt.max_len = PROMPT['max_len']
  config.parallel.update(PARALLEL)
  return config
