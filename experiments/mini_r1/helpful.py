"""The helpfulness reward model: pairs, scored on the summary alone (R1,
B.3.1)."""

from experiments import base as defaults
from experiments.mini_r1.base import ROOT


def get_config():
  config = defaults.get_config('reward_model')
  config.init = f'{ROOT}/dev3/model'
  config.data = f'{ROOT}/data/preferences.jsonl'
  config.kind = 'pairwise'
  config.part = 'summary'
  config.held_out = 64
  config.epochs = 4
  config.batch_size = 64
  config.micro_batch_size = 64
  config.max_len = 27
  config.length_buckets = 1
  config.prompt.template = 'plain'
  config.optim.lr = 5e-4
  return config
