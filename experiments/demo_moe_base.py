"""Base model of the demo with a mixture of experts: a tiny DeepSeek-V3 with
latent attention, a dense layer, a layer of 8 experts in 2 groups and a shared
one, and a module of multi-token prediction, trained from scratch on the toy
corpus of demo_base.py."""

from experiments import demo_base


def get_config():
  config = demo_base.get_config()
  config.scratch.family = 'deepseek'
  config.scratch.mtp_layers = 1
  config.mtp_coef = 0.3
  config.epochs = 7  # some seeds learn the sums late
  return config
