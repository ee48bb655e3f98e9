"""Dev2, reasoning RL: rules and the share of the question's language, the clip
at 10 (R1, 3.2.1 and Methods).

Not stated: the number of updates. R1's 80 hours on the machines on which
R1-Zero's 10,400 took 198 are some 4,200; without the 1,700 of the second RL
2,500 are left, of which these are six whole terms of the reference. The format
is what the paper names: the think tags alone.
"""

from experiments.r1 import PROMPT, ROOT, zero


def get_config():
  config = zero.get_config()
  config.init = f'{ROOT}/dev1/model'
  config.steps = 2_400
  config.max_new_tokens_schedule = ()
  config.rewards = dict(accuracy=1.0, think_format=1.0, language=1.0)
  config.prompt.update(PROMPT)
  return config
