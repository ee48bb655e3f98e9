"""R1-Zero on GSM8K with a small model, such as Qwen2.5-0.5B: 400 updates of 32
prompts, about two passes over the 7,473 training problems.

A rollout has one update, so the ratio is 1 and there is nothing to clip.
"""

from experiments import zero_paper


def get_config():
  config = zero_paper.get_config()
  config.steps = 400
  config.grpo.prompts_per_step = 32
  config.grpo.minibatches = 1
  config.grpo.clip_low = config.grpo.clip_high = 0.2  # the default
  config.sample.max_new_tokens = 1024
  config.max_new_tokens_schedule = ()
  config.eval.every = 100
  return config
