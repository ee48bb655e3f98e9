"""Rejection sampling from Dev2's checkpoint, mixed with records that are no
reasoning: the 800k of Dev3 and of the students (R1, 2.3.3 and B.3.3).

Not stated: temperature (RL's), samples a prompt (RL's 16), how many of them are
kept (8, as the 626,933 are to the 80,000 prompts of Table 4). The domains have
the paper's sizes; its 211,129 of code need a verifier that is not here, and the
judge is another model than its DeepSeek-V3. Prompt and response together must
fit into the SFT's 32,768 tokens, so a response has what the prompt leaves.
"""

from experiments import base
from experiments.r1 import COMPUTE, PARALLEL, PROMPT, ROOT


def get_config():
  config = base.get_config('reject')
  config.init = f'{ROOT}/dev2/model'
  config.data = f'{ROOT}/data/sampled.jsonl'
  config.min_rewards = dict(accuracy=1.0, think_format=1.0)
  config.per_prompt = 8
  config.per_domain = dict(math=395_285, stem=10_124, logic=10_395)
  config.mix = f'{ROOT}/data/polite.jsonl'
  config.mix_count = 177_812
  config.judge.init = 'Qwen/Qwen2.5-32B-Instruct'
  config.prompt.update(PROMPT)
  config.sample.max_new_tokens = 32_768 - PROMPT['max_len']
  config.compute.update(COMPUTE)
  config.parallel.update(PARALLEL)
  return config
