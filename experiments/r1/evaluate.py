"""AIME 2024 by the protocol of the paper: 64 samples a problem, pass@1 and the
majority vote of 64 (R1, D.1).

Temperature 0.6, top-p 0.95 and 32,768 tokens are the defaults of the stage.
R1-Zero needs its own prompt: --config.prompt.template=r1_zero
--config.prompt.prefill= --config.format=format
"""

from experiments import base
from experiments.r1 import COMPUTE, PARALLEL, PROMPT, ROOT

INSTRUCTION = (
  '\nPlease reason step by step, and put your final answer within \\boxed{}.'
)


def get_config():
  config = base.get_config('evaluate')
  config.init = f'{ROOT}/r1/model'
  config.data = dict(aime_2024=f'{ROOT}/data/aime_2024.jsonl')
  config.samples = 64
  config.pass_k = (64,)
  config.format = 'think_format'
  config.prompt.update(PROMPT)
  config.prompt.template = PROMPT['template'].replace(
    '{question}', '{question}' + INSTRUCTION
  )
  config.compute.update(COMPUTE)
  config.parallel.update(PARALLEL)
  return config
