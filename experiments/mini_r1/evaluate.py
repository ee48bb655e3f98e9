"""What every model is asked: 16 samples of each held-out problem (R1, D.1), at
temperature 1, for at the paper's 0.6 Zero and R1 are nearly always right here
and could not be told apart (more.sh samples them so too)."""

from experiments import base as defaults
from experiments.mini_r1.base import ROOT


def get_config():
  config = defaults.get_config('evaluate')
  config.data = dict(held=f'{ROOT}/data/held.jsonl')
  config.samples = 16
  config.prompts_per_chunk = 256
  config.prompt.template = 'plain'
  config.prompt.max_len = 10
  config.sample.max_new_tokens = 20
  config.sample.decode_slots = 256
  config.sample.temperature = 1.0
  config.sample.top_p = 1.0
  return config
