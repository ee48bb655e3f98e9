"""Dev2, reasoning RL: accuracy, format and language rewards, clip range 10, and
a small KL to a reference that is refreshed (R1, 3.2.1)."""

from experiments.mini_r1 import zero
from experiments.mini_r1.base import ROOT


def get_config():
  config = zero.get_config()
  config.init = f'{ROOT}/dev1/model'
  config.rewards = dict(accuracy=1.0, format=0.2, language=0.5)
  config.grpo.clip_low = config.grpo.clip_high = 10.0
  config.grpo.kl_coef = 0.001
  config.grpo.ref_every = 40
  config.grpo.loss_agg = 'seq_mean_token_mean'
  return config
