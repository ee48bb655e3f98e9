"""R1, RL for all scenarios: temperature 0.7, general records and their reward
models in the last 400 updates alone (R1, 3.2.2 and eq. 8 to 10).

The paper's 1,700 updates are no whole number of rollouts, which are 16 each:
the nearest that is, 1,696. Not stated: the scale of the reward models in the
sum. Here they give a chance between 0 and 1, as the rules do.
"""

from experiments.r1 import ROOT, dev2


def get_config():
  config = dev2.get_config()
  config.init = f'{ROOT}/dev3/model'
  config.prompts = f'{ROOT}/data/scenarios.jsonl'
  config.eval.data = f'{ROOT}/data/held_all.jsonl'
  config.steps = 1_696
  config.domains_from = 1_696 - 400
  config.by_domain = {
    'general-helpful': dict(helpful=1.0, think_format=1.0, language=1.0),
    'general-harmless': dict(harmless=1.0, think_format=1.0, language=1.0),
  }
  config.reward_models = dict(
    helpful=f'{ROOT}/helpful/model', harmless=f'{ROOT}/harmless/model'
  )
  config.sample.temperature = 0.7
  return config
