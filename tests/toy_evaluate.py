"""The evaluation of the base of toy_sft.py on seven problems, three a chunk."""

from experiments import base


def get_config():
  config = base.get_config('evaluate')
  config.data = dict(GSM8K='toy:running_sum?count=7&digits=3')
  config.samples = 4
  config.pass_k = (2,)
  config.cons = 3
  config.questions = 3
  config.prompt.template = 'plain'
  config.prompt.max_len = 8
  config.sample.max_new = 10
  config.sample.slots = 4
  config.sample.refill_every = 4
  config.sample.windows = 1
  return config
