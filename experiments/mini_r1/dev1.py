"""Cold start: the base on few, readable thoughts (R1, 2.3.1 and B.4.2)."""

from experiments.mini_r1 import base


def get_config():
  config = base.get_config()
  config.init = f'{base.ROOT}/base/model'
  config.data = f'{base.ROOT}/cold.jsonl'
  config.epochs = 3
  config.batch_size = 64
  config.micro_batch_size = 64
  config.optim.lr = 5e-4
  config.optim.warmup = 0
  return config
