"""The harmlessness reward model: 106,000 labelled responses, scored as a whole
(R1, 3.1 and B.3.1)."""

from experiments.r1 import ROOT, helpful


def get_config():
  config = helpful.get_config()
  config.data = f'{ROOT}/data/safety_labels.jsonl'
  config.kind = 'pointwise'
  config.part = 'response'
  return config
