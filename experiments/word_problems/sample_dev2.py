"""Rejection sampling from the reasoning RL's checkpoint, mixed with half of the
cold start's solutions in the place of records that are no reasoning (R1,
B.3.3)."""

from experiments import base
from experiments.word_problems import COMPUTE, PROMPT, ROOM, ROOT


def get_config():
  config = base.get_config('reject')
  config.init = f'{ROOT}/dev2/model'
  config.data = f'{ROOT}/data/problems.jsonl'
  config.samples = 4
  config.prompts_per_chunk = 64
  config.per_prompt = 2
  config.mix = f'{ROOT}/data/cold.jsonl'
  config.mix_count = 900
  config.prompt.update(PROMPT)
  config.sample.max_new_tokens = ROOM
  config.sample.decode_slots = 64
  config.sample.temperature = 0.7
  config.compute.update(COMPUTE)
  return config
