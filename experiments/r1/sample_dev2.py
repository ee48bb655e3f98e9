"""Rejection sampling from the checkpoint of Dev2, mixed with records that need
no reasoning: the 800k records of Dev3 and of the students (R1, 2.3.3 and
B.3.3).

The paper does not state the temperature, the number of samples of a prompt and
how many of them are kept. The config takes 1 and 16 as in RL, and keeps 8, the
ratio of 626,933 records to the 80,000 prompts of Table 4. The domains have the
sizes of Table 5 without its 211,129 records of code; with problems that have
unit tests, add per_domain.code. The LLM judge replaces the paper's DeepSeek-V3.
Prompt and response must fit into the 32,768 tokens of the SFT stage.
"""

from experiments import base
from experiments.r1 import COMPUTE, PARALLEL, PROMPT, ROOT


def get_config():
  config = base.get_config('reject')
  config.init = f'{ROOT}/dev2/model'
  config.data = f'{ROOT}/data/rejection_sampling.jsonl'
  config.min_rewards = dict(accuracy=1.0, think_format=1.0)
  config.per_prompt = 8
  config.per_domain = dict(math=395_285, stem=10_124, logic=10_395)
  config.mix = f'{ROOT}/data/non_reasoning.jsonl'
  config.mix_count = 177_812
  config.judge.init = 'Qwen/Qwen2.5-32B-Instruct'
  config.prompt.update(PROMPT)
  config.sample.max_new_tokens = 32_768 - PROMPT['max_len']
  config.compute.update(COMPUTE)
  config.parallel.update(PARALLEL)
  return config
