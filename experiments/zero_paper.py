"""R1-Zero with the values of the paper (R1, section 2.1 and Methods).

Where the paper states no value, a comment says so, or the default is used.
"""

from experiments import base


def get_config():
  config = base.get_config('rl')
  config.steps = 10_400
  config.grpo.prompts_per_step = 512  # a rollout of 8,192 samples ...
  config.grpo.group_size = 16
  config.grpo.minibatches = 16  # ... in updates of 32 prompts
  config.grpo.clip_low = 10.0  # of R1's first RL stage; not stated for R1-Zero
  config.grpo.clip_high = 10.0
  config.grpo.kl_coef = 0.001
  config.grpo.kl_estimator = 'k3'
  config.grpo.ref_every = 400
  config.grpo.old_logprobs = 'trainer'
  config.grpo.tis_cap = 2.0  # not stated: corrects the sampler in bfloat16
  config.rewards = dict(accuracy=1.0, format=1.0)
  config.sample.temperature = 1.0
  config.sample.max_new_tokens = 32_768
  config.max_new_tokens_schedule = ((8_200, 65_536),)
  config.optim.lr = 3e-6
  config.compute.dtype = 'bfloat16'
  config.compute.remat = 'full'
  return config
