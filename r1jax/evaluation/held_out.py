"""pass@1 on records that training never sees."""

import dataclasses

import jax
import numpy as np

from r1jax import errors
from r1jax.config import option
from r1jax.evaluation import statistics
from r1jax.rewards import pending
from r1jax.rewards.pending import Rewards, Scorer
from r1jax.sampling.generate import Sampler, Samples


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  every: int = option(50, 'steps between evaluations; 0: never', least=0)
  data: str = option('', "held-out records; '': held out of the data")
  held_out: int = option(128, 'prompts to hold out of the data', least=0)
  samples: int = option(4, 'samples a prompt', least=1)
  temperature: float = option(1.0, 'of the evaluation samples', least=0)


def check(c, weights):
  """Refuses what cannot be evaluated, with a sentence."""
  if c.every and 'accuracy' not in weights:
    raise errors.UserError(
      'pass@1 needs the accuracy reward: add it to config.rewards, with weight '
      '0 if it is not to be learnt from, or set config.eval.every=0'
    )
  if c.every and not c.data and not c.held_out:
    raise errors.UserError(
      'nothing is held out to evaluate on: set config.eval.held_out or '
      'config.eval.data, or config.eval.every=0'
    )


def evaluate(
  config: EvalConfig,
  sampler: Sampler,
  scorer: Scorer,
  params: dict,
  records: list[dict],
  key: jax.Array,
  max_new_tokens: int,
) -> dict[str, float]:
  """pass@1 with its 95 % interval, the share of groups without a signal, and
  the means of the samples, named 'eval/...'."""
  samples = sampler.sample(
    params,
    records,
    np.arange(len(records)),
    key,
    config.samples,
    config.temperature,
    max_new_tokens,
  )
  rewards = pending.score(scorer, samples.records, samples.texts)
  reward_NK = rewards.reward_N.reshape(-1, config.samples)
  accuracy_NK = rewards.parts['accuracy'].reshape(-1, config.samples)
  judged_NK = accuracy_NK[~np.isnan(accuracy_NK).any(axis=1)]
  low, high = statistics.interval(judged_NK)
  line = summary(samples, rewards)
  return {
    'eval/pass1': line.pop('reward/accuracy'),
    'eval/low': low,
    'eval/high': high,
    'eval/dead_groups': statistics.all_equal(reward_NK).mean(),
  } | {f'eval/{name}': value for name, value in line.items()}


def summary(samples: Samples, rewards: Rewards) -> dict[str, float]:
  """The means of rewards, length and truncation."""
  return {
    'reward': judged_mean(rewards.reward_N),
    'unjudged': np.isnan(rewards.reward_N).mean(),
    'length': samples.length_N.mean(),
    'truncated': 1 - samples.rows.finished_B.mean(),
  } | {
    f'reward/{name}': judged_mean(part_N)
    for name, part_N in rewards.parts.items()
  }


def judged_mean(x_N: np.ndarray) -> np.float32:
  """The mean over the samples that could be judged; NaN where none could."""
  judged_N = x_N[~np.isnan(x_N)]
  return judged_N.mean() if judged_N.size else np.float32(np.nan)


def base_rate(line):
  """What the run starts from: a base that never succeeds cannot learn."""
  x = {name.removeprefix('eval/'): value for name, value in line.items()}
  return (
    f'base: pass@1 {x["pass1"]:.3f} [{x["low"]:.3f}, {x["high"]:.3f}], '
    f'{x["dead_groups"]:.1%} of the groups without a signal, '
    f'length {x["length"]:.1f}, truncated {x["truncated"]:.1%}'
  )
