"""R1, RL for all scenarios: temperature 0.7; general records and their reward
models in the last 400 updates alone (R1, 3.2.2 and eq. 8 to 10).

The paper's 1,700 updates are not a multiple of the 16 updates of a rollout;
1,696 are. The paper does not state the scale of the reward models in the sum.
Here they return a probability, so that they have the range of the rule rewards.
"""

from experiments.r1 import ROOT, dev2


def get_config():
  config = dev2.get_config()
  config.init = f'{ROOT}/dev3/model'
  config.prompts = f'{ROOT}/data/all_scenarios.jsonl'
  config.eval.data = f'{ROOT}/data/held_out_all.jsonl'
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
