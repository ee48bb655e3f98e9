"""What the pods' runs share: R1-Zero's values with rows of 4,096 tokens.

A rollout is 4,096 samples in 8 updates of 32 questions, as the paper's. Loops
are compiled once a layer, and read the cache in one window: a second one costs
a second cache.
"""

from experiments import zero_paper


def get_config():
  config = zero_paper.get_config()
  config.prompts = 'data/problems.jsonl'
  config.eval.data = 'data/held.jsonl'
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
