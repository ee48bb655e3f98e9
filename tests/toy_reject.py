"""Rejection sampling from the model of toy_sft.py, three chunks of prompts."""

from experiments import base


def get_config():
  config = base.get_config('reject')
  config.data = 'toy:running_sum?count=22&digits=3'
  config.samples = 16
  config.prompts_per_chunk = 8
  config.per_prompt = 2
  config.prompt.template = 'plain'
  config.prompt.max_len = 8
  config.sample.temperature = 0.7
  config.sample.max_new_tokens = 10
  config.sample.decode_slots = 8
  config.sample.refill_interval = 4
  config.sample.kv_windows = 1
  config.judge.prompt.template = 'plain'
  return config
