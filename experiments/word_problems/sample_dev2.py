"""Rejection sampling from the checkpoint of Dev2, mixed with half of the
cold-start records in place of records that need no reasoning (R1, B.3.3)."""

from experiments import base
from experiments.word_problems import COMPUTE, MAX_NEW_TOKENS, PROMPT, ROOT


def get_config():
  config = base.get_config('reject')
  config.init = f'{ROOT}/dev2/model'
  config.data = f'{ROOT}/data/problems.jsonl'
  config.samples = 4
  config.prompts_per_chunk = 64
  config.per_prompt = 2
  config.mix = f'{ROOT}/data/cold_start.jsonl'
  config.mix_count = 900
  config.prompt.update(PROMPT)
  config.sample.max_new_tokens = MAX_NEW_TOKENS
  config.sample.decode_slots = 64
  config.sample.temperature = 0.7
  config.compute.update(COMPUTE)
  return config
