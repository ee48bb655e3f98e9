"""The demo with a mixture of experts: R1-Zero on the toy task, see demo_zero.py,
from the base of demo_moe_base.py."""

from experiments import demo_zero


def get_config():
  config = demo_zero.get_config()
  config.init = 'runs/demo_moe/base/model'
  config.steps = 140
  config.compute.keep_mtp = True
  config.grpo.mtp_coef = 0.1
  return config
