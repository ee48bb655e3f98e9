"""RL on programs. The reward is whether a function passes its unit tests, which
run in a sandbox (R1, section 2.2.2: accuracy rewards of code)."""

from experiments import demo_zero


def get_config():
  config = demo_zero.get_config()
  config.init = 'runs/code/base/model'
  config.prompts = 'toy:function?count=4000&digits=1'
  config.steps = 40
  config.rewards = dict(accuracy=1.0, format=0.2)
  config.eval.every = 20
  config.eval.held_out = 20
  config.prompt.max_len = 8
  config.sample.max_new_tokens = 12
  config.grpo.prompts_per_step = 16
  config.optim.lr = 2e-4
  return config
