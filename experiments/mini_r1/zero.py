"""R1-Zero in miniature: RL on the base model with accuracy and format rewards
(R1, section 2.2). The language reward has weight 0: it is only measured."""

from experiments import base as defaults
from experiments.mini_r1.base import ROOT


def get_config():
  config = defaults.get_config('rl')
  config.init = f'{ROOT}/base/model'
  config.prompts = f'{ROOT}/data/problems.jsonl'
  config.eval.data = f'{ROOT}/data/held_out.jsonl'
  config.steps = 100
  config.micro_batch_size = 256
  config.length_buckets = 1
  config.rewards = dict(accuracy=1.0, format=0.2, language=0.0)
  config.eval.every = 20
  config.eval.samples = 4
  config.prompt.template = 'plain'
  config.prompt.max_len = 10
  config.sample.max_new_tokens = 20
  config.sample.decode_slots = 256
  config.grpo.prompts_per_step = 16
  config.grpo.group_size = 16
  config.grpo.loss_agg = 'token_mean'
  config.grpo.kl_coef = 0.0
  config.optim.lr = 1e-4
  config.save_every = 50
  return config
