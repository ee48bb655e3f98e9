"""Qwen2.5-32B with rows of 32,768 tokens as in the paper, for v5p:8x8x8."""

from experiments.pods import qwen2_5_32b


def get_config():
  config = qwen2_5_32b.get_config()
  config.prompt.max_len = 1_024
  config.sample.max_new_tokens = 31_744
  config.grpo.minibatches = 4
  config.micro_batch_size = 64
  config.sample.decode_slots = 16
  return config
