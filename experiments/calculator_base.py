"""Base model that calls a calculator in one response of five. The task is the
product of two numbers of two digits, which the model cannot compute by itself.
The results of the calculator are not trained on."""

from experiments import demo_base


def get_config():
  config = demo_base.get_config()
  config.data = 'toy:product?count=24000&digits=2'
  config.max_len = 32
  config.prompt.tool = 'calculator'
  config.scratch.extra_tokens = ('<calc>', '</calc>', '<result>', '</result>')
  return config
