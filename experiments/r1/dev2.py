"""Dev2, reasoning RL: rule rewards and the language consistency reward, clip
range 10 (R1, 3.2.1 and Methods).

The paper does not state the number of updates. Both RL stages of R1 took 80
hours on the machines on which the 10,400 updates of R1-Zero took 198 hours.
That is about 4,200 updates, less 1,700 of the second RL stage: 2,500. The
config takes 2,400, six periods of the reference. The format reward checks the
think tags alone, as in the paper.
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
