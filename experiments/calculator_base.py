"""A base that asks a calculator in one response of five: products of two-digit
numbers, which it cannot do by itself. The calculator's results are not learnt."""

from experiments import base

WORDS = ('<calc>', '</calc>', '<result>', '</result>')


def get_config():
  config = base.get_config('sft')
  config.data = 'toy:product?count=24000&digits=2'
  config.epochs = 4
  config.batch = 192
  config.micro = 192
  config.max_len = 32
  config.buckets = 1
  config.prompt.template = 'plain'
  config.prompt.tool = 'calculator'
  config.scratch.words = WORDS
  config.optim.lr = 3e-3
  config.optim.warmup = 20
  config.optim.b2 = 0.99
  return config
