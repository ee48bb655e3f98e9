"""MATH-500 as the paper evaluates it: 16 samples a problem (R1, D.1)."""

from experiments.r1 import ROOT, evaluate


def get_config():
  config = evaluate.get_config()
  config.data = dict(math_500=f'{ROOT}/data/math_500.jsonl')
  config.samples = 16
  config.pass_k = ()
  return config
