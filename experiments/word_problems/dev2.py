"""Dev2, reasoning RL on problems of MAWPS and GSM8K (R1, 3.2.1).

There is no language reward, since all data are English. The temperature is 0.7:
at 1 a model of this size answers 2 of 100 samples correctly, and few groups
have a signal.
"""

from experiments import base
from experiments.word_problems import COMPUTE, MAX_NEW_TOKENS, PROMPT, ROOT


def get_config():
  config = base.get_config('rl')
  config.init = f'{ROOT}/dev1/model'
  config.prompts = f'{ROOT}/data/problems.jsonl'
  config.eval.data = f'{ROOT}/data/held_out_mawps.jsonl'
  config.eval.every = 0
  config.steps = 20
  config.micro_batch_size = 16
  config.save_every = 4
  config.rewards = dict(accuracy=1.0, format=0.2)
  config.prompt.update(PROMPT)
  config.sample.max_new_tokens = MAX_NEW_TOKENS
  config.sample.temperature = 0.7
  config.sample.decode_slots = 64
  config.grpo.prompts_per_step = 8
  config.grpo.group_size = 8
  config.grpo.loss_agg = 'token_mean'
  config.grpo.kl_coef = 0.0
  config.grpo.old_logprobs = 'trainer'
  config.grpo.tis_cap = 2.0
  config.compute.update(COMPUTE)
  config.optim.lr = 2e-5
  config.optim.warmup = 2
  return config
