"""Dev1, the cold start: SFT of the base model on the solutions of GSM8K (R1,
2.3.1 and B.4.2)."""

from experiments import base
from experiments.word_problems import BASE, COMPUTE, PROMPT, ROOT


def get_config():
  config = base.get_config('sft')
  config.init = BASE
  config.data = f'{ROOT}/data/cold_start.jsonl'
  config.epochs = 1
  config.batch_size = 16
  config.micro_batch_size = 8
  config.max_len = 256
  config.save_every = 20
  config.prompt.update(PROMPT)
  config.compute.update(COMPUTE)
  config.optim.lr = 2e-4
  config.optim.warmup = 5
  return config
