"""R1-Zero: pure RL on the base, accuracy and format alone (R1, 2.1).

experiments/zero_paper.py, which says what the paper leaves open, on a base and
on data. The longer responses begin with the first rollout after step 8,200, at
8,208: a rollout is 16 updates.
"""

from experiments import zero_paper
from experiments.r1 import BASE, PARALLEL, PROMPT, ROOT


def get_config():
  config = zero_paper.get_config()
  config.init = BASE
  config.prompts = f'{ROOT}/data/problems.jsonl'
  config.eval.data = f'{ROOT}/data/held.jsonl'
  config.prompt.max_len = PROMPT['max_len']
  config.parallel.update(PARALLEL)
  return config
