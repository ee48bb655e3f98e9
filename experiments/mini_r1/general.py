"""Responses to held-out general prompts. All samples are kept; claims.py
measures them."""

from experiments import base as defaults
from experiments.mini_r1.base import ROOT


def get_config():
  config = defaults.get_config('reject')
  config.data = f'{ROOT}/data/held_out_general.jsonl'
  config.samples = config.per_prompt = 16
  config.prompts_per_chunk = 88
  config.min_rewards = dict(format=0.0)
  config.filters.language = 0.0
  config.prompt.template = 'plain'
  config.prompt.max_len = 10
  config.sample.max_new_tokens = 20
  config.sample.decode_slots = 256
  return config
