"""Colab's free T4 (15 GB), which has no bfloat16: half the prompts a step."""

from experiments.hardware import small


def get_config():
  config = small.get_config()
  config.micro_batch_size = 4
  config.grpo.prompts_per_step = 8
  config.compute.dtype = 'float32'
  return config
