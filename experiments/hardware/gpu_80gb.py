"""One GPU of 80 GB: A100, H100 (and H200), with Qwen2.5-1.5B."""

from experiments.hardware import small


def get_config():
  config = small.get_config()
  config.init = 'Qwen/Qwen2.5-1.5B'
  config.micro_batch_size = 16
  config.sample.max_new_tokens = 1024
  config.sample.decode_slots = 256
  config.grpo.prompts_per_step = 32
  config.grpo.group_size = 16
  return config
