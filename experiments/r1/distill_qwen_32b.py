"""R1-Distill-Qwen-32B: SFT alone on the 800k records, batch 64, the cosine
down to a tenth (R1, B.4.3)."""

from experiments.r1 import dev3


def get_config():
  config = dev3.get_config()
  config.init = 'Qwen/Qwen2.5-32B'
  config.batch_size = 64
  config.optim.lr = 6e-5
  return config
