"""The rewards of a rollout, computed while the devices go on. Each host scores
rows of its own, and all hosts learn the rewards of all rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import NamedTuple

import numpy as np

from r1jax.distributed import hosts
from r1jax.rewards import registry
from r1jax.rewards.registry import Record, Reward


class Rewards(NamedTuple):
  """float32 and NaN where nothing could be judged."""

  reward_N: np.ndarray  # weighted sums
  parts: dict[str, np.ndarray]  # the unweighted rewards by name, [N] each


@dataclasses.dataclass(frozen=True)
class Scorer:
  """The rewards of a run: weights by name, and who computes them."""

  weights: Mapping[str, float]
  by_domain: Mapping[str, Mapping[str, float]]
  rules: Mapping[str, Reward]  # beside the registry's, or in their place
  models: Mapping[str, Reward]  # trained models, which use the devices


@dataclasses.dataclass(frozen=True)
class PendingRewards:
  """Rewards that an executor is computing; `collect` waits for them."""

  own_rows: Future  # of (reward_N, parts) of this host's rows


def submit(
  executor: Executor,
  scorer: Scorer,
  records: Sequence[Record],
  texts: Sequence[str],
) -> PendingRewards:
  """Starts to score the texts.

  Reward models score all rows here and now: they use the devices, so all hosts
  must call them in one order. The executor then runs the rules on this host's
  rows.
  """
  model_rewards = score_by_models(scorer, records, texts)
  return PendingRewards(
    executor.submit(_score_own_rows, scorer, records, texts, model_rewards)
  )


def collect(pending: PendingRewards) -> Rewards:
  """The rewards of all rows. Waits; a collective on several hosts."""
  return gather(*pending.own_rows.result())


def score(
  scorer: Scorer, records: Sequence[Record], texts: Sequence[str]
) -> Rewards:
  """submit and collect in one. A collective on several hosts."""
  model_rewards = score_by_models(scorer, records, texts)
  return gather(*_score_own_rows(scorer, records, texts, model_rewards))


def score_by_models(
  scorer: Scorer, records: Sequence[Record], texts: Sequence[str]
) -> dict[str, np.ndarray]:
  """The reward models' rewards of all rows; NaN where a record has none."""
  weights_N = [
    registry.weights_for(scorer.weights, scorer.by_domain, record)
    for record in records
  ]
  rewards = {}
  for name, model in scorer.models.items():
    asked = [n for n, weights in enumerate(weights_N) if name in weights]
    reward_N = np.full(len(texts), np.nan, np.float32)
    if asked:
      reward_N[asked] = registry.apply_reward(
        name, model, [records[n] for n in asked], [texts[n] for n in asked]
      )
    rewards[name] = reward_N
  return rewards


def gather(
  reward_N: np.ndarray | None, parts: Mapping[str, np.ndarray]
) -> Rewards:
  """The rewards of all hosts' rows, from those of each. A collective."""
  if hosts.count() == 1:
    return Rewards(reward_N, dict(parts))
  columns = dict(parts) if reward_N is None else dict(parts, **{'': reward_N})
  by_host = hosts.gather({name: x.tolist() for name, x in columns.items()})
  gathered = {}
  for name in columns:
    values = [value for host in by_host for value in host[name]]
    gathered[name] = np.array(values, np.float32)
  return Rewards(gathered.pop('', None), gathered)


def _score_own_rows(scorer, records, texts, model_rewards):
  own = hosts.own_rows(len(texts))
  return registry.weighted_rewards(
    scorer.weights,
    records[own],
    texts[own],
    by_domain=scorer.by_domain,
    more=scorer.rules,
    computed={name: reward_N[own] for name, reward_N in model_rewards.items()},
  )
