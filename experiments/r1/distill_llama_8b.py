"""R1-Distill-Llama-8B: SFT on the 800k records, batch size 64, cosine schedule
to a tenth of the learning rate (R1, B.4.3)."""

from experiments.r1 import dev3


def get_config():
  config = dev3.get_config()
  config.init = 'meta-llama/Llama-3.1-8B'
  config.batch_size = 64
  config.optim.lr = 5e-5
  return config
