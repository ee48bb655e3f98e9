"""DeepSeek-R1 (671 B), all parameters trained, for v5p:8x8x8: each chip has 2 of
128 heads and 4 of 256 experts of every layer.

A step has 512 samples of at most 1,536 tokens, as in NeMo-RL's measurement on
256 H100s (134 s a step with a mean length of about 700).
"""

from experiments.pods import rows_4k


def get_config():
  config = rows_4k.get_config()
  config.init = 'deepseek-ai/DeepSeek-R1'
  config.parallel.tensor_parallel = 64
  config.grpo.prompts_per_step = 32
  config.grpo.minibatches = 1
  config.grpo.clip_low = config.grpo.clip_high = 0.2
  config.prompt.max_len = 512
  config.sample.max_new_tokens = 1_536
  config.sample.decode_slots = 64
  config.micro_batch_size = 64
  return config
