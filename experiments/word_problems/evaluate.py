"""Held-out problems of MAWPS and GSM8K, 32 of each, 16 samples at the paper's
temperature, without its top-p (R1, D.1)."""

from experiments import base
from experiments.word_problems import COMPUTE, PROMPT, ROOM, ROOT


def get_config():
  config = base.get_config('evaluate')
  config.data = dict(
    mawps=f'{ROOT}/data/held_mawps.jsonl', gsm8k=f'{ROOT}/data/held_gsm8k.jsonl'
  )
  config.limit = 32
  config.samples = 16
  config.prompts_per_chunk = 16
  config.prompt.update(PROMPT)
  config.sample.max_new_tokens = ROOM
  config.sample.decode_slots = 64
  config.sample.top_p = 1.0
  config.compute.update(COMPUTE)
  return config
