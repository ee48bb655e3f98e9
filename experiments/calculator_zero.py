"""RL with a tool. The model may call a calculator while it thinks; the results
are inserted into the response and are not trained on. Only the correct answer
is rewarded, so the model learns to call the tool where it helps. R1 leaves tool
use to future work (section 6)."""

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
