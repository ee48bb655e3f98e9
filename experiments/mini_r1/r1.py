"""R1, RL for all scenarios: rule rewards for reasoning, reward models for
general prompts, which are sampled in the second half alone; temperature 0.7
(R1, 3.2.2)."""

from experiments.mini_r1 import dev2
from experiments.mini_r1.base import ROOT


def get_config():
  config = dev2.get_config()
  config.init = f'{ROOT}/dev3/model'
  config.prompts = f'{ROOT}/data/all_scenarios.jsonl'
  config.eval.data = f'{ROOT}/data/held_out_all.jsonl'
  config.by_domain = {
    'general-helpful': dict(helpful=1.0, format=0.2, language=0.5),
    'general-harmless': dict(harmless=1.0, format=0.2, language=0.5),
  }
  config.steps = 80
  config.domains_from = 40
  config.reward_models = dict(
    helpful=f'{ROOT}/helpful/model', harmless=f'{ROOT}/harmless/model'
  )
  config.sample.temperature = 0.7
  return config
