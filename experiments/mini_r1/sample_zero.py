"""Correct responses of R1-Zero for the cold start, in any mixture of languages
(R1, B.3.2)."""

from experiments import base as defaults
from experiments.mini_r1.base import ROOT


def get_config():
  config = defaults.get_config('reject')
  config.init = f'{ROOT}/zero/model'
  config.data = f'{ROOT}/data/cold_start.jsonl'
  config.samples = 4
  config.prompts_per_chunk = 64
  config.filters.language = 0.0
  config.prompt.template = 'plain'
  config.prompt.max_len = 10
  config.sample.max_new_tokens = 20
  config.sample.decode_slots = 256
  return config
