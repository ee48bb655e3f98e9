"""GRPO on the base of toy_sft.py, a few rollouts of sixteen rows."""

from experiments import base


def get_config():
  config = base.get_config('rl')
  config.prompts = 'toy:running_sum?count=64&digits=3'
  config.steps = 4
  config.micro_batch_size = 16
  config.length_buckets = 1
  config.save_every = 2
  config.log_samples = 16
  config.rewards = dict(accuracy=1.0, format=0.2)
  config.eval.every = 2
  config.eval.held_out = 4
  config.eval.samples = 4
  config.prompt.template = 'plain'
  config.prompt.max_len = 8
  config.sample.max_new_tokens = 10
  config.sample.decode_slots = 4
  config.sample.refill_interval = 4
  config.sample.kv_windows = 1
  config.grpo.prompts_per_step = 4
  config.grpo.group_size = 4
  config.grpo.kl_coef = 0.0
  config.optim.lr = 1e-3
  return config
