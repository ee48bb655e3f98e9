"""The rewards of a rollout, computed while the devices continue. Each host
scores its own rows; all hosts receive the rewards of all rows."""

import concurrent.futures
import dataclasses
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from r1jax import errors
from r1jax.distributed import hosts, watchdog
from r1jax.rewards import registry
from r1jax.rewards.registry import Reward, Weights
from r1jax.rewards.verdict import Records, Texts

POLL_SECONDS = 0.2  # between two looks for SIGTERM

# Rewards that a thread is computing: the registry.Scores of this host's rows.
PendingRewards = Future


class Rewards(NamedTuple):
  """Rewards of N rows, float32. NaN where a reward is unknown."""

  reward_N: np.ndarray  # weighted sums
  parts: dict[str, np.ndarray]  # the unweighted rewards by name, [N] each
  outages: int = 0  # rows without a reward because of an outage


@dataclasses.dataclass(frozen=True)
class Scorer:
  """The rewards of a run: their weights and functions by name."""

  weights: Weights
  by_domain: Mapping[str, Weights]
  rules: Mapping[str, Reward]  # add to or replace registry.REWARDS
  models: Mapping[str, Reward]  # trained models, which use the devices


def submit(scorer: Scorer, records: Records, texts: Texts) -> PendingRewards:
  """Submits the rewards of the texts. Reward models score all rows before this
  returns: they use the devices, so hosts must call them in the same order."""
  arguments = _own_rows(scorer, records, texts)
  pending: PendingRewards = PendingRewards()

  def compute() -> None:
    try:
      pending.set_result(registry.scores(*arguments))
    except BaseException as error:
      pending.set_exception(error)

  # Unlike an executor's, a daemon thread cannot keep the process from ending:
  # a reward of the user's may never return.
  threading.Thread(target=compute, daemon=True, name='rewards').start()
  return pending


def collect(pending: PendingRewards) -> Rewards:
  """The rewards of all rows. Waits; a collective on several hosts. A UserError
  of one host's rewards is raised on all hosts. SIGTERM ends a host's wait, and
  all raise errors.Terminated if one has no rewards then."""
  problem, own = None, None
  while not pending.done() and not watchdog.terminate_requested():
    concurrent.futures.wait([pending], POLL_SECONDS)
  is_done = pending.done()
  try:
    own = pending.result() if is_done else None
  except errors.UserError as error:
    problem = error
  hosts.raise_on_all(problem)
  if not all(hosts.gather(is_done)):
    raise errors.Terminated
  assert own
  return gather(own)


def score(scorer: Scorer, records: Records, texts: Texts) -> Rewards:
  """submit and collect in one. A collective on several hosts."""
  return collect(submit(scorer, records, texts))


def join(rewards: Sequence[Rewards]) -> Rewards:
  """The rewards of all rows of several Rewards."""
  parts = {}
  for name in rewards[0].parts:
    parts[name] = np.concatenate([part.parts[name] for part in rewards])
  reward_N = np.concatenate([part.reward_N for part in rewards])
  return Rewards(reward_N, parts, sum(part.outages for part in rewards))


def gather(own: registry.Scores) -> Rewards:
  """The rewards of all rows, from those of each host's rows. A collective."""
  parts = gather_columns({'': own.reward_N, **own.parts})
  outages = sum(hosts.gather(int(own.outage_N.sum())))
  return Rewards(reward_N=parts.pop(''), parts=parts, outages=outages)


def gather_columns(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Columns [N] of all rows, from those of each host's rows. A collective."""
  by_host = hosts.gather({name: x.tolist() for name, x in columns.items()})
  gathered = {}
  for name in columns:
    values = [host[name] for host in by_host]
    gathered[name] = np.concatenate(values).astype(np.float32)
  return gathered


def _own_rows(scorer, records, texts):
  """Arguments of registry.scores for this host's rows, with the rewards of
  trained models."""
  weights, by_domain = scorer.weights, scorer.by_domain
  weights_N = [registry.weights_for(weights, by_domain, x) for x in records]
  own, computed = hosts.own_rows(len(texts)), {}
  for name, model in scorer.models.items():
    reward_N = registry.apply_reward(name, model, weights_N, records, texts)
    computed[name] = reward_N[own]
  return weights, records[own], texts[own], by_domain, scorer.rules, computed
