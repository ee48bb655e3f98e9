"""MATH-500 by the protocol of the paper: 16 samples a problem (R1, D.1)."""

from experiments.r1 import ROOT, evaluate


def get_config():
  config = evaluate.get_config()
  config.data = dict(math_500=f'{ROOT}/data/math_500.jsonl')
  config.samples = 16
  config.pass_k = ()
  return config
