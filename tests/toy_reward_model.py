"""A reward model on the model of toy_sft.py; tests set the data."""

from experiments import base


def get_config():
  config = base.get_config('reward_model')
  config.held_out = 64
  config.steps = 60
  config.batch_size = 32
  config.micro_batch_size = 32
  config.max_len = 32
  config.length_buckets = 1
  config.save_every = 25
  config.eval_every = 20
  config.prompt.template = 'plain'
  config.prompt.max_len = 8
  config.optim.lr = 1e-2
  return config
