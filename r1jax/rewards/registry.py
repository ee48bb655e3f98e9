"""The table of rewards, their weighted sum, and the checks of their config."""

import collections
import difflib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from r1jax import errors, user_code
from r1jax.data.bad_records import BadRecords
from r1jax.rewards import (
  choice,
  format,
  language,
  penalties,
  scorer,
  user_rewards,
  verdict,
)
from r1jax.rewards.code.verifier import ProgramVerifier
from r1jax.rewards.math import grading
from r1jax.rewards.math_verify import MathVerifyVerifier
from r1jax.rewards.scorer import ScorerVerifier
from r1jax.rewards.verdict import Record, Records, Texts

# (records, texts) -> one finite number for each text. A text is the whole
# response: its opening in the prompt (<think>, prefill) included, end token
# removed. A masked entry means that the reward is unknown; the sample is then
# excluded from the update. Its data are verdict.OUTAGE if an outage is why.
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
# The first verifier that handles a record verifies its accuracy; see
# verifiers_of.
VERIFIERS = ScorerVerifier, ProgramVerifier, choice.ChoiceVerifier
# The last verifier, which compares mathematics, by config.verify.math_verifier.
MATH_VERIFIERS: dict[str, type[verdict.Verifier]] = {
  'r1jax': grading.MathVerifier,
  'math_verify': MathVerifyVerifier,
}
DEFAULT_CONFIG = verdict.VerifyConfig()
# Names in the previous version, for the error about an unknown reward.
RENAMED = {'brief': 'length_penalty', 'variety': 'repetition_penalty'}


def check_rewards(
  weights: Weights,
  records: Records,
  by_domain: Mapping[str, Weights] = {},
  model_names: Collection[str] = (),
  bad: BadRecords | None = None,
  verify: verdict.VerifyConfig = DEFAULT_CONFIG,
) -> list[Record]:
  """The records, without those that have an unknown domain or language, or
  a gold answer that the verifier of `verify` cannot read, which are noted in
  `bad`, or else raise UserError. Refuses unknown rewards, and rewards of the user's that fail.
  Trained models have the rewards model_names."""
  _check_names([*REWARDS, *model_names], weights, by_domain)
  noted, known = bad or BadRecords(key=''), []
  for record in records:
    with noted.noted(record['id']):
      _check_domain(record, by_domain)
      if 'language' in weights_for(weights, by_domain, record):
        language.check(record)
      known.append(record)
  verified = verified_records(weights, known, by_domain)
  scorer.check_code(verified)
  good = set(map(id, known)) - set(map(id, verified))
  for verifier in verifiers_of(verify):
    own = [x for x in verified if verifier.handles(x)]
    good.update(map(id, verifier.check_all(verify, own, noted)))
    verified = [x for x in verified if not verifier.handles(x)]
  kept = [x for x in known if id(x) in good]
  if not bad:
    noted.finish(len(kept), 'the data')
  for name in user_names(weights, by_domain):
    own = [x for x in kept if name in weights_for(weights, by_domain, x)]
    user_rewards.check(name, own)
  return kept


def _check_names(known, weights, by_domain):
  """Refuses unknown rewards."""
  if not all((weights, *by_domain.values())):
    raise errors.UserError(f'name at least one reward of {", ".join(REWARDS)}')
  for name in itertools.chain(weights, *by_domain.values()):
    if name in known or user_code.is_name(name):
      continue
    if ':' in name or name.endswith('.py'):
      user_code.load(name, 'config.rewards')  # raises: the name is missing
    else:
      near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
      raise errors.UserError(
        f'there is no reward {name!r}; did you mean '
        f'{RENAMED.get(name, near)!r}? There are {", ".join(known)}, and your '
        'own as FILE.py:NAME'
      )


def _check_domain(record, by_domain):
  domain = record.get('domain', REASONING_DOMAINS[0])
  if not isinstance(domain, str | None):
    raise errors.UserError(
      f'the domain of record {record["id"]} is {user_code.describe(domain)}: '
      'it must be a text'
    )
  domains = *by_domain, *REASONING_DOMAINS
  if by_domain and domain not in domains:
    raise errors.UserError(
      f'record {record["id"]} has the domain {domain!r}, which has no '
      f'rewards: name it in config.by_domain, or use {", ".join(domains)}'
    )


def verifiers_of(config: verdict.VerifyConfig) -> list[type[verdict.Verifier]]:
  """The verifiers of a run, in their order: VERIFIERS, and the one of
  mathematics that the config names."""
  return [*VERIFIERS, MATH_VERIFIERS[config.math_verifier]]


def verified_records(
  weights: Weights,
  records: Records,
  by_domain: Mapping[str, Weights] = {},
) -> list[Record]:
  """The records whose accuracy is among their rewards."""
  return [
    x for x in records if 'accuracy' in weights_for(weights, by_domain, x)
  ]


def user_names(
  weights: Weights, by_domain: Mapping[str, Weights] = {}
) -> list[str]:
  """The names of the user's own rewards among the weights."""
  names = dict.fromkeys(itertools.chain(weights, *by_domain.values()))
  return [x for x in names if x not in REWARDS and user_code.is_name(x)]


def labels(names: Iterable[str]) -> dict[str, str]:
  """{name: name in metrics and tables}: NAME alone of a reward of the user's,
  unless another reward is called so."""
  names = list(dict.fromkeys(names))
  short = {name: user_code.short_name(name) for name in names}
  counts = collections.Counter([*short.values(), *REWARDS])
  return {
    name: name if name in REWARDS or counts[label] > 1 else label
    for name, label in short.items()
  }


def weights_for(
  weights: Weights, by_domain: Mapping[str, Weights], record: Record
) -> Weights:
  """The weights of a record: those of its domain, if it has its own."""
  return by_domain.get(record.get('domain', ''), weights)


class Scores(NamedTuple):
  """The rewards of N texts. NaN where a reward has no weight or is masked; if
  masked, the sum is NaN too."""

  reward_N: np.ndarray  # sum_k weight_k * reward_k, float32
  parts: dict[str, np.ndarray]  # the unweighted reward_k by label
  outage_N: np.ndarray  # bool: whether an outage is why the sum is NaN


def weighted_rewards(
  weights: Weights,
  records: Records,
  texts: Texts,
  by_domain: Mapping[str, Weights] = {},
  rules: Mapping[str, Reward] = {},
  computed: Mapping[str, np.ndarray] = {},
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """(reward_N, parts) of `scores`."""
  found = scores(weights, records, texts, by_domain, rules, computed)
  return found.reward_N, found.parts


def scores(
  weights: Weights,
  records: Records,
  texts: Texts,
  by_domain: Mapping[str, Weights] = {},
  rules: Mapping[str, Reward] = {},
  computed: Mapping[str, np.ndarray] = {},
) -> Scores:
  """The Scores of texts.

  by_domain replaces the weights for the records of a domain. `rules` adds to or
  replaces REWARDS; `computed` has rewards that are already known.
  """
  assert len(records) == len(texts)
  rules = REWARDS | dict(rules)
  weights_N = [weights_for(weights, by_domain, record) for record in records]
  reward_N, parts = np.zeros(len(texts), np.float32), {}
  outage_N = np.zeros(len(texts), bool)
  for name in dict.fromkeys(itertools.chain(weights, *by_domain.values())):
    part_N = computed.get(name)
    if part_N is None:
      part_N = apply_reward(name, rules[name], weights_N, records, texts)
    outage_N |= part_N == verdict.OUTAGE
    part_N = np.where(part_N == verdict.OUTAGE, np.float32(np.nan), part_N)
    parts[name] = part_N
    for n, table in enumerate(weights_N):
      if name in table:
        reward_N[n] += np.float32(table[name]) * part_N[n]
  label_of = labels(parts)
  parts = {label_of[name]: x_N for name, x_N in parts.items()}
  return Scores(reward_N, parts, outage_N)


def apply_reward(
  name: str, fn: Reward, table_N: list[Weights], records: Records, texts: Texts
) -> np.ndarray:
  """The reward of the records that have a weight for it, float32 [N]; NaN for
  others and masked entries, verdict.OUTAGE for those of an outage."""
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
  is_outage = np.ma.getmaskarray(masked_N) & (masked_N.data == verdict.OUTAGE)
  reward_N[index] = np.where(is_outage, verdict.OUTAGE, masked_N.filled(np.nan))
  return reward_N
