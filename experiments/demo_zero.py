"""The demo: R1-Zero on the toy task. The model answers correctly only if it
writes the intermediate results, so accuracy and response length rise together
(R1, section 2.2)."""

from experiments import base


def get_config():
  config = base.get_config('rl')
  config.init = 'runs/demo/base/model'
  config.prompts = 'toy:running_sum?count=20000'
  config.steps = 120
  config.seed = 100  # other records than those of the base model
  config.micro_batch_size = 256
  config.length_buckets = 1
  config.rewards = dict(accuracy=1.0, format=0.2)
  config.eval.every = 10
  config.eval.held_out = 256
  config.eval.samples = 4
  config.prompt.template = 'plain'
  config.prompt.max_len = 8
  config.sample.max_new_tokens = 16
  config.sample.decode_slots = 256
  config.grpo.prompts_per_step = 16
  config.grpo.group_size = 16
  config.grpo.loss_agg = 'token_mean'
  config.grpo.kl_coef = 0.0
  config.optim.lr = 1e-4
  config.save_every = 50
  return config
