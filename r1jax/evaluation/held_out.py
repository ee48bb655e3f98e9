"""Rewards of a policy on held-out records during an rl run, pass@1 among them,
and the metric by which checkpoints are the best."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from r1jax import errors
from r1jax.config import option
from r1jax.evaluation import best, statistics
from r1jax.rewards import registry
from r1jax.rewards.pending import Rewards
from r1jax.sampling.generate import Samples

PASS1, REWARD = 'eval/pass1', 'eval/reward'
OTHER_METRICS = 'length', 'truncated', 'dead_groups', 'unscored'
Tables = Sequence[Mapping[str, float]]  # weights of rewards by name


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  every: int = option(50, 'steps between evaluations; 0: never', minimum=0)
  data: str = option(
    '',
    "held-out records; '': some of config.prompts",
    is_code=True,
    fixed='held_out',
    reads='records',
  )
  data_map: dict[str, str] = option(
    {}, 'columns of data; {}: those of config.prompts_map', fixed='held_out'
  )
  held_out: int = option(
    128, 'prompts of config.prompts held out', minimum=0, fixed='held_out'
  )
  samples: int = option(4, 'samples a prompt', minimum=1)
  prompts_per_chunk: int = option(
    64, 'prompts sampled at a time', minimum=1, is_free=True
  )
  temperature: float = option(1.0, 'of the evaluation samples', minimum=0)
  best: str = option(
    '',
    'the best checkpoint has the highest eval/pass1, eval/reward, '
    "eval/reward/NAME …, or the lowest: -NAME; '': pass1 where there is one",
    fixed='best',
  )


def check(config: EvalConfig, tables: Tables) -> None:
  """Raises UserError where there is nothing to evaluate, or where config.best
  is no metric of records with these tables of weights, which are those of all
  records and of each domain."""
  if not config.every:
    return
  if not config.data and not config.held_out:
    raise errors.UserError(
      'there are no held-out records to evaluate on: set '
      'config.eval.held_out or config.eval.data, or config.eval.every=0'
    )
  name, names = best_metric(config, tables).removeprefix('-'), _names(tables)
  if name == PASS1 and name not in names:
    raise errors.UserError(
      'config.eval.best is eval/pass1, which needs the accuracy reward: add it '
      'to config.rewards, with weight 0 to leave it out of training, or name '
      f'another of {", ".join(names)}'
    )
  best.check(best_metric(config, tables), names)


def check_records(
  config: EvalConfig, tables: Tables, weights_N: Iterable[Mapping[str, float]]
) -> None:
  """Raises UserError if no held-out record has the reward of config.best. They
  have the weights weights_N, of the tables."""
  metric, names = best_metric(config, tables), _names(tables)
  reward = names[metric.removeprefix('-')]
  if reward and not any(reward in weights for weights in weights_N):
    raise errors.UserError(
      f'no held-out record has the reward {reward}, and {metric} decides which '
      'checkpoint is the best: config.by_domain has other rewards for all '
      f'their domains. Add {reward} there, with weight 0 to leave it out of '
      'training, hold out other records, or set config.eval.best=eval/reward, '
      'or config.eval.every=0'
    )


def best_metric(config: EvalConfig, tables: Tables) -> str:
  """config.best; without it pass@1 if a table has the accuracy reward, else the
  mean reward."""
  return config.best or (PASS1 if PASS1 in _names(tables) else REWARD)


def score(config: EvalConfig, line: Mapping[str, float]) -> float:
  """By what the checkpoint of an evaluation is compared, higher is better; NaN
  if nothing was judged. The line is that of `metrics`."""
  return best.score(config.best or (PASS1 if PASS1 in line else REWARD), line)


def _names(tables):
  """{metric: the reward without which it is NaN, '' if it is of all samples}."""
  labels = registry.labels(name for table in tables for name in table)
  names = {REWARD: ''}
  for reward, label in labels.items():
    names[f'eval/reward/{label}'] = reward
  if names.pop('eval/reward/accuracy', ''):
    names = {PASS1: 'accuracy'} | names
  return names | {f'eval/{name}': '' for name in OTHER_METRICS}


def metrics(samples: Samples, rewards: Rewards, group_size: int) -> dict:
  """pass@1 and the mean reward with their 95 % intervals, the number of problems
  that they are over, the share of groups with equal rewards, and the means of
  `summary`, named 'eval/...'.

  Problems without any judged sample are left out; of the others the judged
  samples count. NaN if there are none. Without the accuracy reward there is no
  pass@1, and the problems are those with a reward.
  """
  reward_PG = rewards.reward_N.reshape(-1, group_size)
  reward_PG = reward_PG[~np.isnan(reward_PG).all(axis=1)]
  line: dict[str, float] = dict(problems=len(reward_PG))
  means = summary(samples, rewards)
  if 'accuracy' in rewards.parts:
    line = _pass1(rewards.parts['accuracy'].reshape(-1, group_size))
    del means['reward/accuracy']  # It is over samples, pass@1 over problems.
  low = high = dead = math.nan
  if reward_PG.size:
    low, high = statistics.bootstrap_samples(reward_PG)
    dead = float(statistics.all_equal(reward_PG).mean())
  line |= dict(dead_groups=dead) | means
  line |= dict(reward_low=low, reward_high=high)
  return {f'eval/{name}': value for name, value in line.items()}


def _pass1(accuracy_PG):
  """pass@1, its interval and the number of problems."""
  # Partial credit is a reward; only full credit counts as right.
  right_PG = np.where(np.isnan(accuracy_PG), np.nan, accuracy_PG == 1)
  pass1_P = judged_means(right_PG)
  pass1 = low = high = math.nan
  if pass1_P.size:
    pass1 = float(pass1_P.mean())
    low, high = statistics.mean_interval(pass1_P)
  return dict(pass1=pass1, low=low, high=high, problems=len(pass1_P))


def judged_means(right_PG: np.ndarray) -> np.ndarray:
  """The mean over the judged samples, not NaN, of each problem that has any."""
  count_P = (~np.isnan(right_PG)).sum(axis=1)
  sum_P = np.nansum(right_PG, axis=1, dtype=np.float64)
  return sum_P[count_P > 0] / count_P[count_P > 0]


def base_line(
  line: Mapping[str, float],
  config: EvalConfig,
  group_size: int,
  temperature: float,
) -> str:
  """A line about the policy before training: RL cannot improve a base whose
  groups of group_size samples at a temperature all have equal rewards. The
  evaluation's samples are named, since they may be fewer or colder."""
  text = 'base: no held-out problem was judged, '
  if PASS1 not in line and line['eval/problems']:
    text = (
      'base: reward {eval/reward:.3f} [{eval/reward_low:.3f}, '
      '{eval/reward_high:.3f}] of {eval/problems} problems, '
    )
  elif PASS1 in line and line['eval/problems']:
    text = (
      'base: pass@1 {eval/pass1:.3f} [{eval/low:.3f}, {eval/high:.3f}] of '
      '{eval/problems} problems, '
    )
  text += 'length {eval/length:.1f}, truncated {eval/truncated:.1%}; '
  samples = f'{config.samples} samples at temperature {config.temperature:g}'
  if math.isnan(line['eval/dead_groups']):
    return (text + 'no sample has a reward').format_map(line)
  text += f'{{eval/dead_groups:.1%}} have equal rewards in {samples}'
  if (config.samples, config.temperature) != (group_size, temperature):
    text += f' (a training group: {group_size} at {temperature:g})'
  return text.format_map(line)


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
