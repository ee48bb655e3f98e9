"""The base of the configs for free and small TPUs (Kaggle's v5e:2x4, Colab's
v6e:1x1): R1-Zero on GSM8K with rows of 1,280 tokens."""

from experiments import zero_gsm8k


def get_config():
  config = zero_gsm8k.get_config()
  config.prompts = 'data/gsm8k_train.jsonl'
  config.prompt.max_len = 256
  config.micro_batch_size = 8
  config.sample.decode_slots = 64
  config.sample.kv_windows = 1
  config.sample.refill_interval = 64
  config.compute.scan_decode = True
  config.grpo.kl_coef = 0.0  # no copy of the model as reference
  config.parallel.strategy = 'mesh'
  return config
