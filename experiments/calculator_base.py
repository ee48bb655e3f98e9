"""A base that asks a calculator in one response of five: products of two-digit
numbers, which it cannot do by itself. The calculator's results are not learnt."""

from experiments import demo_base


def get_config():
  config = demo_base.get_config()
  config.data = 'toy:product?count=24000&digits=2'
  config.max_len = 32
  config.prompt.tool = 'calculator'
  config.scratch.extra_tokens = ('<calc>', '</calc>', '<result>', '</result>')
  return config
