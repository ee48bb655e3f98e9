"""The demo: R1-Zero on the toy task, where only thinking in tokens makes the
answer right, so accuracy and length rise together (R1 section 2.2)."""

from experiments import base


def get_config():
  config = base.get_config('rl')
  config.init = 'runs/demo/base/model'
  config.prompts = 'toy:running_sum?count=20000'
  config.steps = 120
  config.seed = 100  # other records than the base has seen
  config.micro = 256
  config.buckets = 1
  config.rewards = dict(accuracy=1.0, format=0.2)
  config.eval.every = 10
  config.eval.held_out = 256
  config.eval.samples = 4
  config.prompt.template = 'plain'
  config.prompt.max_len = 8
  config.sample.max_new = 16
  config.sample.slots = 256
  config.grpo.questions = 16
  config.grpo.group = 16
  config.grpo.weights = 'token'
  config.grpo.beta = 0.0
  config.optim.lr = 1e-4
  config.save_every = 50
  return config
