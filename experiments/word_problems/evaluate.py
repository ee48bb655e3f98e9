"""Held-out problems, 16 samples each at the paper's sampling (R1, D.1): all of
MAWPS that is held out, as many of GSM8K's test set."""

from experiments import base
from experiments.word_problems import COMPUTE, PROMPT, ROOM, ROOT
from experiments.word_problems.world import HELD_OUT


def get_config():
  config = base.get_config('evaluate')
  config.data = dict(
    mawps=f'{ROOT}/data/held_mawps.jsonl',
    gsm8k=f'{ROOT}/data/held_gsm8k.jsonl',
  )
  config.limit = HELD_OUT
  config.samples = 16
  config.questions = 16
  config.prompt.update(PROMPT)
  config.sample.max_new = ROOM
  config.sample.slots = 64
  config.compute.update(COMPUTE)
  return config
