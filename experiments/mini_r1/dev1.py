"""Dev1, the cold start: SFT of the base model on a few readable responses (R1,
2.3.1 and B.4.2)."""

from experiments.mini_r1 import base


def get_config():
  config = base.get_config()
  config.init = f'{base.ROOT}/base/model'
  config.data = f'{base.ROOT}/cold_start.jsonl'
  config.epochs = 3
  config.batch_size = 64
  config.micro_batch_size = 64
  config.optim.lr = 5e-4
  config.optim.warmup = 0
  return config
