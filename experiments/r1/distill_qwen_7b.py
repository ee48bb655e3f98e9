"""R1-Distill-Qwen-7B: SFT alone on the 800k records, batch 64, the cosine
down to a tenth (R1, B.4.3).

Qwen2.5-Math says that it knows 4,096 positions, and is refused: `init` is a copy
whose config.json has max_position_embeddings 131,072, as in DeepSeek's release.
"""

from experiments.r1 import dev3


def get_config():
  config = dev3.get_config()
  config.init = 'models/Qwen2.5-Math-7B'
  config.batch_size = 64
  config.optim.lr = 8e-5
  return config
