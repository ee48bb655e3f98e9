"""pass@1 of a policy on held-out records, during an rl run."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from r1jax import errors
from r1jax.config import option
from r1jax.evaluation import statistics
from r1jax.rewards.pending import Rewards
from r1jax.sampling.generate import Samples

# About the policy before training: RL cannot improve a base whose groups all
# have equal rewards.
BASE_RATE = (
  'base: pass@1 {eval/pass1:.3f} [{eval/low:.3f}, {eval/high:.3f}], '
  '{eval/dead_groups:.1%} of the groups with equal rewards, length '
  '{eval/length:.1f}, truncated {eval/truncated:.1%}'
)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  every: int = option(50, 'steps between evaluations; 0: never', minimum=0)
  data: str = option(
    '',
    "held-out records; '': some of config.prompts",
    is_code=True,
    fixed='held_out',
  )
  held_out: int = option(
    128, 'prompts of config.prompts held out', minimum=0, fixed='held_out'
  )
  samples: int = option(4, 'samples a prompt', minimum=1)
  temperature: float = option(1.0, 'of the evaluation samples', minimum=0)


def check(config: EvalConfig, weights: Mapping[str, float]) -> None:
  """Raises UserError where there is nothing to evaluate, or no pass@1."""
  if config.every and 'accuracy' not in weights:
    raise errors.UserError(
      'pass@1 needs the accuracy reward: add it to config.rewards, with weight '
      '0 to leave it out of training, or set config.eval.every=0'
    )
  if config.every and not config.data and not config.held_out:
    raise errors.UserError(
      'there are no held-out records to evaluate on: set '
      'config.eval.held_out or config.eval.data, or config.eval.every=0'
    )


def metrics(samples: Samples, rewards: Rewards, group_size: int) -> dict:
  """pass@1 with its 95 % interval, the share of groups with equal rewards, and
  the means of `summary`, named 'eval/...'."""
  accuracy_PG = rewards.parts['accuracy'].reshape(-1, group_size)
  scored_PG = accuracy_PG[~np.isnan(accuracy_PG).any(axis=1)]
  low, high = statistics.interval(scored_PG)
  equal_P = statistics.all_equal(rewards.reward_N.reshape(-1, group_size))
  means = summary(samples, rewards)
  line = dict(pass1=means.pop('reward/accuracy'), low=low, high=high)
  line |= dict(dead_groups=equal_P.mean()) | means
  return {f'eval/{name}': value for name, value in line.items()}


def summary(samples: Samples, rewards: Rewards) -> dict[str, float]:
  """The means of rewards over the samples that have one, of length and of
  truncation; 'unscored' is the share without, because a verifier failed."""
  means = {
    'reward': _scored_mean(rewards.reward_N),
    'unscored': np.isnan(rewards.reward_N).mean(),
    'length': samples.length_N.mean(),
    'truncated': 1 - samples.rows.finished_B.mean(),
  }
  parts = rewards.parts.items()
  return means | {f'reward/{name}': _scored_mean(x_N) for name, x_N in parts}


def _scored_mean(x_N):
  scored_N = x_N[~np.isnan(x_N)]
  return float(scored_N.mean()) if scored_N.size else np.nan
