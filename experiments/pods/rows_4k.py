"""The base of the configs for pods: R1-Zero with rows of 4,096 tokens.

A rollout has 4,096 samples in 8 updates of 32 prompts, as in the paper. One
layer is compiled for all (compute.scan_decode), and the cache has one window:
each further window needs a copy of the cache.
"""

from experiments import zero_paper


def get_config():
  config = zero_paper.get_config()
  config.prompts = 'data/problems.jsonl'
  config.eval.data = 'data/held_out.jsonl'
  config.grpo.prompts_per_step = 256
  config.grpo.minibatches = 8
  config.grpo.tis_cap = 2.0
  config.prompt.max_len = 512
  config.sample.max_new_tokens = 3_584
  config.max_new_tokens_schedule = ()
  config.sample.kv_windows = 1
  config.sample.refill_interval = 64
  config.compute.scan_decode = True
  config.compute.head_chunk = 512
  config.parallel.strategy = 'mesh'
  config.save_every = 8
  return config
