"""Base model of the demo: two layers, trained from scratch on the toy corpus,
whose responses have thoughts of any length and correct answers."""

from experiments import base


def get_config():
  config = base.get_config('sft')
  config.init = 'scratch'
  config.data = 'toy:running_sum?count=24000'
  config.epochs = 4
  config.batch_size = 192
  config.micro_batch_size = 192
  config.max_len = 23
  config.length_buckets = 1
  config.save_every = 100
  config.prompt.template = 'plain'
  config.optim.lr = 3e-3
  config.optim.warmup = 20
  config.optim.b2 = 0.99
  return config
