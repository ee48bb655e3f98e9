"""R1-Distill-Qwen-1.5B: SFT on the 800k records, batch size 64, cosine schedule
to a tenth of the learning rate (R1, B.4.3).

The config.json of Qwen2.5-Math states 4,096 positions, fewer than the records
have. `init` is a copy with max_position_embeddings 131,072, as in the release
of DeepSeek-R1-Distill.
"""

from experiments.r1 import dev3


def get_config():
  config = dev3.get_config()
  config.init = 'models/Qwen2.5-Math-1.5B'
  config.batch_size = 64
  config.optim.lr = 1e-4
  return config
