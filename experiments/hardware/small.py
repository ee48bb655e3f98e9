"""The base of the configs of this folder: R1-Zero on GSM8K with groups of 8 and
responses of up to 512 tokens."""

from experiments import zero_gsm8k


def get_config():
  config = zero_gsm8k.get_config()
  config.init = 'Qwen/Qwen2.5-0.5B'
  config.prompts = 'data/gsm8k_train.jsonl'
  config.eval.every = 50
  config.eval.held_out = 128
  config.eval.samples = 2
  config.steps = 200
  config.save_every = 20
  config.micro_batch_size = 8
  config.prompt.max_len = 256
  config.sample.max_new_tokens = 512
  config.sample.decode_slots = 64
  config.sample.refill_interval = 64
  config.grpo.prompts_per_step = 16
  config.grpo.group_size = 8
  config.grpo.kl_coef = 0.0  # no copy of the model as reference
  return config
