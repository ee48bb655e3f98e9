"""Ends a run whose rewards judge no sample."""

import numpy as np

from r1jax import errors
from r1jax.distributed import watchdog
from r1jax.rewards.pending import Rewards

MAX_UNSCORED = 3  # rollouts in a row without a reward, after which a run ends


class UnscoredRollouts:
  """Counts the rollouts in a row in which no sample has a reward."""

  def __init__(self) -> None:
    self.count = 0

  def check(self, rewards: Rewards) -> None:
    """Notes the rewards of a rollout. If none is known, says so; raises
    UserError at the MAX_UNSCORED-th such rollout in a row."""
    if not np.isnan(rewards.reward_N).all():
      self.count = 0
      return
    self.count += 1
    parts = rewards.parts
    names = [x for x in parts if np.isnan(parts[x]).all()]
    names = names or [x for x in parts if np.isnan(parts[x]).any()]
    shown = ', '.join(names)
    sentence = f'no sample of this rollout was judged by the reward {shown}'
    if self.count >= MAX_UNSCORED:
      raise errors.UserError(
        f'{sentence}, nor of the {MAX_UNSCORED - 1} rollouts before: nothing '
        'can be learnt from them. A reward must return a number for each text '
        'that it can judge; None and NaN mean that it does not judge. The same '
        'command continues the run'
      )
    watchdog.print_error(f'{sentence}: the policy learns nothing from it')
