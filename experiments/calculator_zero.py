"""RL with a tool: the model may call a calculator between thoughts, its results
are put into the response, and the gradient falls on the model's own tokens. The
right answer alone is rewarded; asking is learnt because it pays (a step towards
the tool use that R1 leaves open, section 6)."""

from experiments import demo_zero


def get_config():
  config = demo_zero.get_config()
  config.init = 'runs/calculator/base/model'
  config.prompts = 'toy:product?count=20000&digits=2'
  config.steps = 40
  config.rewards = dict(accuracy=1.0, format=0.0)
  config.eval.held_out = 128
  config.prompt.tool = 'calculator'
  config.prompt.calls = 2
  config.prompt.result_len = 8
  config.sample.max_new_tokens = 20
  config.optim.lr = 2e-4
  return config
