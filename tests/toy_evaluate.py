"""Evaluation of the model of toy_sft.py on seven problems, three a chunk."""

from experiments import base


def get_config():
  config = base.get_config('evaluate')
  config.data = dict(GSM8K='toy:running_sum?count=7&digits=3')
  config.samples = 4
  config.pass_k = (2,)
  config.majority_k = 3
  config.prompts_per_chunk = 3
  config.prompt.template = 'plain'
  config.prompt.max_len = 8
  config.sample.max_new_tokens = 10
  config.sample.decode_slots = 4
  config.sample.refill_interval = 4
  config.sample.kv_windows = 1
  return config
