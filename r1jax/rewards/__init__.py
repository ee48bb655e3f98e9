"""Rewards: functions of (records, texts) that give one number a text.

A verifier is one file here and one line in REWARDS. A text is the whole
response: a prefilled <think> included, the end token removed.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from r1jax import errors
from r1jax.rewards import format, math_answer

Record = dict
Reward = Callable[[Sequence[Record], Sequence[str]], np.ndarray]

REWARDS = {
  'accuracy': math_answer.accuracy,
  'format': format.format_reward,
  'think_format': format.think_format_reward,
}


def check(weights: Mapping[str, float], records: Sequence[Record]) -> None:
  """Refuses unknown rewards, and golds that their verifier cannot read."""
  if not weights:
    raise errors.UserError(f'name at least one reward of {", ".join(REWARDS)}')
  for name in weights:
    _function(name)
  if 'accuracy' in weights:
    for record in records:
      math_answer.check_gold(record)


def total(
  weights: Mapping[str, float],
  records: Sequence[Record],
  texts: Sequence[str],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """(Σ_k weight_k · reward_k, the unweighted reward_k by name), float32."""
  assert len(records) == len(texts)
  parts = {name: _score(name, records, texts) for name in weights}
  reward_N = np.zeros(len(texts), np.float32)
  for name, part_N in parts.items():
    reward_N += np.float32(weights[name]) * part_N
  return reward_N, parts


def _score(name, records, texts):
  """A missing or non-finite reward is an error with its record, never a 0."""
  reward_N = np.asarray(_function(name)(records, texts), np.float32)
  if reward_N.shape != (len(texts),):
    raise ValueError(
      f'reward {name!r} gave shape {reward_N.shape} for {len(texts)} texts '
      f'(records {[record["id"] for record in records[:4]]}…)'
    )
  for n in np.flatnonzero(~np.isfinite(reward_N)):
    raise ValueError(
      f'reward {name!r} of record {records[n]["id"]} is {reward_N[n]}'
    )
  return reward_N


def _function(name):
  if name not in REWARDS:
    near = difflib.get_close_matches(name, REWARDS, n=1, cutoff=0)
    raise errors.UserError(
      f'there is no reward {name!r}; did you mean {near[0]!r}? '
      f'There are {", ".join(REWARDS)}'
    )
  return REWARDS[name]
