"""On-policy distillation, which is not in the paper: a distilled student
minimises the reverse KL to its teacher on its own samples.

The teacher takes the place of the reference. No reward has weight, so a prompt
needs one sample, and a rollout has one update.
"""

from experiments.r1 import ROOT, dev2


def get_config():
  config = dev2.get_config()
  config.init = f'{ROOT}/distill_qwen_1_5b/model'
  config.teacher = f'{ROOT}/r1/model'  # with the same tokenizer
  config.steps = 400
  config.rewards = dict(accuracy=0.0, think_format=0.0)
  config.grpo.group_size = 1
  config.grpo.advantage_std = 'none'
  config.grpo.minibatches = 1
  config.grpo.clip_low = config.grpo.clip_high = 0.2  # nothing is clipped
  config.grpo.kl_coef = 1.0
  config.grpo.kl_estimator = 'k3_unbiased'
  return config
