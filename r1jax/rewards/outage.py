"""Rewards during an outage: of a service, a network or a machine, without which
most texts cannot be judged. They are computed again after pauses; if the outage
lasts, the run ends and can be tried again."""

import time

from r1jax import errors
from r1jax.distributed import hosts, watchdog
from r1jax.rewards import pending
from r1jax.rewards.pending import Rewards, Scorer
from r1jax.rewards.verdict import Records, Texts

PAUSES = 5, 10, 20, 40, 80, 160, 300  # seconds before each new try


def score(scorer: Scorer, records: Records, texts: Texts) -> Rewards:
  """The rewards of all rows, after an outage. A collective."""
  rewards = pending.score(scorer, records, texts)
  return score_again(scorer, records, texts, rewards)


def score_again(
  scorer: Scorer, records: Records, texts: Texts, rewards: Rewards
) -> Rewards:
  """The rewards, or those of a later try if an outage spoiled them. Raises
  errors.Outage if it outlasts PAUSES. A collective."""
  tries = 0
  while spoils(rewards.outages, len(texts)):
    pause(rewards.outages, len(texts), tries)
    rewards = pending.score(scorer, records, texts)
    tries += 1
  return rewards


def spoils(outages: int, texts: int) -> bool:
  """Whether an outage left most texts unjudged. The others are then no fair
  sample: those without a final answer need no verifier."""
  return 2 * outages > texts


def pause(outages: int, texts: int, tries: int) -> None:
  """Waits before the next try. Raises errors.Outage after the last one, and
  errors.Terminated at SIGTERM, on all hosts. A collective."""
  sentence = f'an outage left {outages} of {texts} responses unjudged'
  if tries == len(PAUSES):
    minutes = sum(PAUSES) / 60
    raise errors.Outage(
      f'{sentence}, also in {tries} more tries within {minutes:.0f} minutes: '
      'nothing is learnt or counted from them. The lines above name the causes'
    )
  watchdog.print_error(f'{sentence}: tries again in {PAUSES[tries]} s')
  for _ in range(PAUSES[tries]):
    hosts.raise_if_terminating()
    time.sleep(1)
