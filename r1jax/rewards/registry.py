"""Rewards: functions of (records, texts) that give one number a text.

A verifier is one file here and one line in REWARDS. A text is the whole
response: a prefilled <think> included, the end token removed.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from r1jax import errors
from r1jax.rewards import choice, format, language, length, repetition
from r1jax.rewards.code import unit_tests
from r1jax.rewards.math import grading

Record = dict
# One number a text; masked where nothing could be judged, which costs this
# sample alone.
Reward = Callable[[Sequence[Record], Sequence[str]], np.ndarray]

# The domains of R1's reasoning data: rule rewards. A record without a domain is
# of the first.
REASONING_DOMAINS = ('reasoning', 'math', 'code', 'stem', 'logic')
REWARDS = {
  'accuracy': grading.accuracy,
  'format': format.format_reward,
  'think_format': format.think_format_reward,
  'language': language.language,
  'choice': choice.choice,
  'length_penalty': length.length_penalty,
  'repetition_penalty': repetition.repetition_penalty,
}


def check_rewards(weights, records, by_domain=None, more=None) -> None:
  """Refuses unknown rewards and domains, and golds that cannot be read."""
  by_domain, more = by_domain or {}, more or {}
  for table in (weights, *by_domain.values()):
    if not table:
      raise errors.UserError(
        f'name at least one reward of {", ".join(REWARDS)}'
      )
    for name in table:
      _function(name, more)
  for record in records:
    domain = record.get('domain', REASONING_DOMAINS[0])
    if by_domain and domain not in (*by_domain, *REASONING_DOMAINS):
      raise errors.UserError(
        f'record {record["id"]} is of the domain {domain!r}, which has no '
        f'rewards: give it some by config.by_domain, or let it be one of '
        f'{", ".join([*by_domain, *REASONING_DOMAINS])}'
      )
    if 'accuracy' in weights_for(weights, by_domain, record):
      check_accuracy(record)


def is_code(record) -> bool:
  """Whether tests tell if an answer is right."""
  return 'test' in record or 'tests' in record


def check_accuracy(record) -> None:
  """Refuses a record whose right answer cannot be told."""
  if is_code(record):
    unit_tests.check_tests(record)
  elif 'choices' in record:
    choice.check(record)
  else:
    grading.check_gold(record)


def weighted_rewards(
  weights: Mapping[str, float],
  records: Sequence[Record],
  texts: Sequence[str],
  by_domain: Mapping[str, Mapping[str, float]] | None = None,
  more: Mapping[str, Reward] | None = None,
  computed: Mapping[str, np.ndarray] | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """(Σ_k weight_k · reward_k, the unweighted reward_k by name), float32.

  Records whose domain is in by_domain have its weights in the place of
  `weights`; where a reward has no weight for a record its part is NaN. `more`
  holds rewards beside REWARDS, or in the place of those. `computed` holds the
  rewards that trained models have given already, [N], NaN where a record has
  none. What a reward could not judge is NaN in both results.
  """
  by_domain, more, computed = by_domain or {}, more or {}, computed or {}
  assert len(records) == len(texts)
  tables = [weights_for(weights, by_domain, record) for record in records]
  reward_N, parts = np.zeros(len(texts), np.float32), {}
  for name in dict.fromkeys(
    n for t in (weights, *by_domain.values()) for n in t
  ):
    asked = [n for n, table in enumerate(tables) if name in table]
    if name in computed:
      part_N = np.asarray(computed[name], np.float32)
    else:
      part_N = np.full(len(texts), np.nan, np.float32)
      if asked:
        part_N[asked] = apply_reward(
          name,
          _function(name, more),
          [records[n] for n in asked],
          [texts[n] for n in asked],
        )
    weight_N = np.array([t.get(name, 0) for t in tables], np.float32)
    reward_N[asked] += weight_N[asked] * part_N[asked]
    parts[name] = part_N
  return reward_N, parts


def weights_for(weights, by_domain, record):
  """{name: weight} of the rewards that a record has."""
  return by_domain.get(record.get('domain'), weights)


def apply_reward(name, function, records, texts):
  """A missing or non-finite reward is an error with its record, never a 0; one
  that is masked is NaN."""
  answer_N = function(records, texts)
  lost_N = np.ma.getmaskarray(answer_N)
  reward_N = np.asarray(np.ma.filled(answer_N, 0), np.float32)
  if reward_N.shape != (len(texts),):
    raise ValueError(
      f'reward {name!r} gave shape {reward_N.shape} for {len(texts)} texts '
      f'(records {[record["id"] for record in records[:4]]}…)'
    )
  for n in np.flatnonzero(~np.isfinite(reward_N)):
    raise ValueError(
      f'reward {name!r} of record {records[n]["id"]} is {reward_N[n]}'
    )
  return np.where(lost_N, np.float32(np.nan), reward_N)


def _function(name, more):
  known = REWARDS | more
  if name not in known:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0)
    raise errors.UserError(
      f'there is no reward {name!r}; did you mean {near[0]!r}? '
      f'There are {", ".join(known)}'
    )
  return known[name]
