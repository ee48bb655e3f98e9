"""Held-out problems of MAWPS and GSM8K, 32 of each, with 16 samples a problem
at the paper's temperature, without its top-p (R1, D.1)."""

from experiments import base
from experiments.word_problems import COMPUTE, MAX_NEW_TOKENS, PROMPT, ROOT


def get_config():
  config = base.get_config('evaluate')
  config.data = dict(
    mawps=f'{ROOT}/data/held_out_mawps.jsonl',
    gsm8k=f'{ROOT}/data/held_out_gsm8k.jsonl',
  )
  config.limit = 32
  config.samples = 16
  config.prompts_per_chunk = 16
  config.prompt.update(PROMPT)
  config.sample.max_new_tokens = MAX_NEW_TOKENS
  config.sample.decode_slots = 64
  config.sample.top_p = 1.0
  config.compute.update(COMPUTE)
  return config
