"""A model of one layer that learns to sum three digits step by step."""

from experiments import base


def get_config():
  config = base.get_config('sft')
  config.data = 'toy:running_sum?count=640&digits=3'
  config.steps = 60
  config.batch_size = 32
  config.micro_batch_size = 32
  config.max_len = 48
  config.length_buckets = 1
  config.save_every = 25
  config.prompt.template = 'plain'
  config.scratch.layers = 1
  config.scratch.width = 16
  config.scratch.heads = 2
  config.scratch.ffn = 32
  config.optim.lr = 1e-2
  return config
