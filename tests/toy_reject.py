"""Rejection sampling from the base of toy_sft.py, three chunks of prompts."""

from experiments import base


def get_config():
  config = base.get_config('reject')
  config.data = 'toy:running_sum?count=22&digits=3'
  config.k = 16
  config.questions = 8
  config.per_prompt = 2
  config.prompt.template = 'plain'
  config.prompt.max_len = 8
  config.sample.temperature = 0.7
  config.sample.max_new = 10
  config.sample.slots = 8
  config.sample.refill_every = 4
  config.sample.windows = 1
  config.judge.prompt.template = 'plain'
  return config
