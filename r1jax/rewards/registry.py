"""The table of rewards, their weighted sum, and the checks of their config."""

import difflib
import itertools
from collections.abc import Callable, Collection, Mapping

import numpy as np

from r1jax import errors
from r1jax.rewards import choice, format, language, penalties
from r1jax.rewards.code.verifier import ProgramVerifier
from r1jax.rewards.math import grading
from r1jax.rewards.verdict import Record, Records, Texts

# (records, texts) -> one finite number for each text. A text is the whole
# response: prefill included, end token removed. A masked entry means that the
# reward is unknown; the sample is then excluded from the update.
Reward = Callable[[Records, Texts], np.ndarray]
Weights = Mapping[str, float]

# The domains of R1's reasoning data, which have rule-based rewards. A record
# without a domain is of the first.
REASONING_DOMAINS = ('reasoning', 'math', 'code', 'stem', 'logic')
REWARDS: dict[str, Reward] = {
  'accuracy': grading.accuracy,  # replaced by Verifiers.accuracy in a run
  'format': format.format_reward,
  'think_format': format.think_format_reward,
  'language': language.language,
  'choice': choice.choice,
  'length_penalty': penalties.length_penalty,
  'repetition_penalty': penalties.repetition_penalty,
}
# The first verifier that handles a record verifies its accuracy.
VERIFIERS = ProgramVerifier, choice.ChoiceVerifier, grading.MathVerifier
# Names in the previous version, for the error about an unknown reward.
RENAMED = {'brief': 'length_penalty', 'variety': 'repetition_penalty'}


def check_rewards(
  weights: Weights,
  records: Records,
  by_domain: Mapping[str, Weights] = {},
  model_names: Collection[str] = (),
) -> None:
  """Refuses unknown rewards and domains, and unreadable gold answers. Trained
  models have the rewards model_names."""
  known = [*REWARDS, *model_names]
  if not all((weights, *by_domain.values())):
    raise errors.UserError(f'name at least one reward of {", ".join(REWARDS)}')
  for name in itertools.chain(weights, *by_domain.values()):
    if name not in known:
      near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
      raise errors.UserError(
        f'there is no reward {name!r}; did you mean '
        f'{RENAMED.get(name, near)!r}? There are {", ".join(known)}'
      )
  domains = *by_domain, *REASONING_DOMAINS
  for record in records:
    domain = record.get('domain', REASONING_DOMAINS[0])
    if by_domain and domain not in domains:
      raise errors.UserError(
        f'record {record["id"]} has the domain {domain!r}, which has no '
        f'rewards: name it in config.by_domain, or use {", ".join(domains)}'
      )
    if 'accuracy' in weights_for(weights, by_domain, record):
      next(x for x in VERIFIERS if x.handles(record)).check(record)


def weights_for(
  weights: Weights, by_domain: Mapping[str, Weights], record: Record
) -> Weights:
  """The weights of a record: those of its domain, if it has its own."""
  return by_domain.get(record.get('domain', ''), weights)


def weighted_rewards(
  weights: Weights,
  records: Records,
  texts: Texts,
  by_domain: Mapping[str, Weights] = {},
  rules: Mapping[str, Reward] = {},
  computed: Mapping[str, np.ndarray] = {},
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """(sum_k weight_k * reward_k, the unweighted reward_k by name), float32 [N].

  by_domain replaces the weights for the records of a domain. `rules` adds to or
  replaces REWARDS; `computed` has rewards that are already known. A reward is
  NaN where it has no weight or is masked; if masked, the sum is NaN too.
  """
  assert len(records) == len(texts)
  rules = REWARDS | dict(rules)
  weights_N = [weights_for(weights, by_domain, record) for record in records]
  reward_N, parts = np.zeros(len(texts), np.float32), {}
  for name in dict.fromkeys(itertools.chain(weights, *by_domain.values())):
    part_N = computed.get(name)
    if part_N is None:
      part_N = apply_reward(name, rules[name], weights_N, records, texts)
    parts[name] = part_N
    for n, table in enumerate(weights_N):
      if name in table:
        reward_N[n] += np.float32(table[name]) * part_N[n]
  return reward_N, parts


def apply_reward(
  name: str, fn: Reward, table_N: list[Weights], records: Records, texts: Texts
) -> np.ndarray:
  """The reward of the records that have a weight for it, float32 [N]; NaN for
  others and masked entries."""
  index = [n for n, weights in enumerate(table_N) if name in weights]
  reward_N = np.full(len(texts), np.nan, np.float32)
  if not index:
    return reward_N
  value_N = fn([records[n] for n in index], [texts[n] for n in index])
  if (shape := np.shape(value_N)) != (len(index),):
    raise ValueError(f'reward {name!r} returned shape {shape} for {len(index)}')
  masked_N = np.ma.asarray(value_N, np.float32)
  for n in np.flatnonzero(np.ma.filled(~np.isfinite(masked_N), False)):
    record_id = records[index[n]]['id']
    raise ValueError(f'reward {name!r} of record {record_id} is {value_N[n]}')
  reward_N[index] = masked_N.filled(np.nan)
  return reward_N
