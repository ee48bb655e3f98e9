"""The base model: trained from scratch on an unfiltered bilingual corpus."""

from experiments import base as defaults
from experiments.mini_r1 import make_data

ROOT = 'runs/mini_r1'


def get_config():
  config = defaults.get_config('sft')
  config.init = 'scratch'
  config.data = f'{ROOT}/data/corpus.jsonl'
  config.epochs = 4
  config.batch_size = 192
  config.micro_batch_size = 192
  config.max_len = 27
  config.length_buckets = 1
  config.save_every = 200
  config.prompt.template = 'plain'
  config.scratch.extra_tokens = make_data.extra_tokens()
  config.optim.lr = 3e-3
  config.optim.warmup = 20
  config.optim.b2 = 0.99
  return config
