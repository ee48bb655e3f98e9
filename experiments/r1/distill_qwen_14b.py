"""R1-Distill-Qwen-14B: SFT on the 800k records, batch size 64, cosine schedule
to a tenth of the learning rate (R1, B.4.3)."""

from experiments.r1 import dev3


def get_config():
  config = dev3.get_config()
  config.init = 'Qwen/Qwen2.5-14B'
  config.batch_size = 64
  config.optim.lr = 7e-5
  return config
