"""Reasoning RL on problems of MAWPS and GSM8K (R1, 3.2.1), without the language
reward: everything here is English. At temperature 0.7, for at 1 a model so small
is right in 2 of 100 samples and few groups have a signal."""

from experiments import base
from experiments.word_problems import COMPUTE, PROMPT, ROOM, ROOT


def get_config():
  config = base.get_config('rl')
  config.init = f'{ROOT}/dev1/model'
  config.prompts = f'{ROOT}/data/problems.jsonl'
  config.eval.data = f'{ROOT}/data/held_mawps.jsonl'
  config.eval.every = 0
  config.steps = 20
  config.micro_batch_size = 16
  config.save_every = 4
  config.rewards = dict(accuracy=1.0, format=0.2)
  config.prompt.update(PROMPT)
  config.sample.max_new_tokens = ROOM
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
