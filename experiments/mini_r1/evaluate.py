"""Evaluation of every model: 16 samples of each held-out problem (R1, D.1).

The temperature is 1. At the paper's 0.6, which more.sh also evaluates, Zero and
R1 are nearly always correct and do not differ.
"""

from experiments import base as defaults
from experiments.mini_r1.base import ROOT


def get_config():
  config = defaults.get_config('evaluate')
  # The random numbers of the samples derive from the name of the set.
  config.data = dict(held=f'{ROOT}/data/held_out.jsonl')
  config.samples = 16
  config.prompts_per_chunk = 256
  config.prompt.template = 'plain'
  config.prompt.max_len = 10
  config.sample.max_new_tokens = 20
  config.sample.decode_slots = 256
  config.sample.temperature = 1.0
  config.sample.top_p = 1.0
  return config
