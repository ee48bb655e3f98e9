"""Which prompts a rollout samples: in an order that depends on the seed alone,
or by a curriculum, from easy to hard ones or by the run's own success.

The choice is a function of the seed, the step, the position in the stream of
prompts and the recorded results, which checkpoints hold; so a resumed run
samples the same prompts. It is computed in integers, so all hosts agree.
"""

import dataclasses
import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from r1jax import errors
from r1jax.config import option
from r1jax.data import mixture
from r1jax.data.formats import Record
from r1jax.rewards.pending import Rewards

LEVELS = dict(easy=1.0, medium=2.0, hard=3.0)
NUMBER = re.compile(r'-?\d+(?:\.\d+)?\s*\Z')  # at the end, as in 'Level 3'
MEMORY = 0.5  # of the success so far, in a new estimate
SCALE = 1000  # of weights as integers
OWN_STREAM = 1 << 62  # keeps random numbers apart from those of other streams

Success = Mapping[str, float]  # estimates of the success rate by id of a record


@dataclasses.dataclass(frozen=True)
class CurriculumConfig:
  difficulty: str = option(
    '', "records' key of a number, or easy to hard: easy prompts come first"
  )
  steps: int = option(
    0, 'steps after which prompts of all difficulties are sampled', minimum=0
  )
  start: float = option(
    0.2, 'share of the easiest prompts at the first step', minimum=0, maximum=1
  )
  by_success: bool = option(
    False, 'samples a prompt more often, the nearer its success is to 1/2'
  )
  reward: str = option('accuracy', 'reward from 0 to 1 that is the success')
  min_weight: float = option(
    0.1,
    'weight of prompts that all or no samples solve; of new ones it is 1',
    minimum=0.001,
    maximum=1,
  )


@dataclasses.dataclass(frozen=True)
class Prompts:
  """The records that rollouts sample, which need not be in memory, and what
  decides which of them, which is."""

  records: Sequence[Record]
  numbers: mixture.Groups  # of the records by source
  ids: Sequence[str]  # of the records with config.by_success, else of none
  difficulty_R: np.ndarray  # with config.difficulty, else empty


def prompts(
  config: CurriculumConfig,
  records: Sequence[Record],
  weights: Mapping[str, float],
) -> Prompts:
  """The Prompts of records with the weights of a mixture."""
  ids, difficulties = list[str](), list[float]()
  if config.by_success:
    ids = [record['id'] for record in records]
  if config.difficulty:
    difficulties = [difficulty_of(config, record) for record in records]
  return Prompts(
    records=records,
    numbers=mixture.groups(records, weights),
    ids=ids,
    difficulty_R=np.array(difficulties),
  )


def check(config: CurriculumConfig, names: Sequence[str]) -> None:
  """Raises UserError for a curriculum that cannot work. `names` are those of
  the rewards in metrics."""
  if bool(config.difficulty) != bool(config.steps):
    raise errors.UserError(
      'config.curriculum.difficulty and config.curriculum.steps belong together: '
      'set the key of the difficulty and the steps that lead to the hard '
      'prompts, or neither'
    )
  if config.by_success and config.reward not in names:
    raise errors.UserError(
      f'config.curriculum.reward is {config.reward!r}, which is none of the '
      f'rewards {", ".join(names)}: add it to config.rewards, with weight 0 to '
      'leave it out of training'
    )


def difficulty_of(config: CurriculumConfig, record: Record) -> float:
  """The difficulty of a record. Raises UserError if it has none."""
  value: Any = record.get(config.difficulty)
  if isinstance(value, str):
    match = NUMBER.search(value)
    value = float(match[0]) if match else LEVELS.get(value.strip().lower())
  is_number = isinstance(value, int | float) and type(value) is not bool
  if not is_number or not abs(value) <= sys.float_info.max:
    raise errors.UserError(
      f'record {record["id"]} has {record.get(config.difficulty)!r} as its '
      f'{config.difficulty!r}, by which config.curriculum orders the prompts: it '
      f'must be a number, end with one, or be one of {", ".join(LEVELS)}. The '
      f'record has the keys {", ".join(record)}'
    )
  return float(value)


def indices(
  config: CurriculumConfig,
  prompts: Prompts,
  weights: Mapping[str, float],
  seed: int,
  step: int,
  start: int,
  count: int,
  success: Success,
) -> np.ndarray:
  """The numbers of the records that a rollout after `step` updates samples, at
  positions `start` to `start + count` of the stream. `weights` are those of a
  mixture, which a curriculum does not change."""
  is_ordered = bool(config.difficulty) and step < config.steps
  if not is_ordered and not config.by_success:
    return mixture.indices(prompts.numbers, weights, seed, start, count)
  chosen_N = np.empty(count, np.int64)
  for part in mixture.parts(prompts.numbers, weights, seed, start, count):
    number_R = part.number_R
    if is_ordered:
      number_R = _easiest(config, prompts.difficulty_R, number_R, step)
    weight_R = np.full(len(number_R), SCALE)
    if config.by_success:
      ids = [prompts.ids[n] for n in number_R]
      weight_R = _weights(config, ids, success)
    index_N = draw(weight_R, seed, start, len(part.place_N))
    chosen_N[part.place_N] = number_R[index_N]
  return chosen_N


def draw(weight_R: np.ndarray, seed: int, start: int, count: int) -> np.ndarray:
  """`count` indices in proportion to integer weights (systematic sampling): the
  weights in a random order divide a line, of which each count-th part takes the
  record at one random point. An index comes twice only if its weight exceeds a
  count-th of the sum."""
  if not count:
    return np.empty(0, np.int64)
  key = [seed, OWN_STREAM + start]
  random_R = np.random.Philox(key=key).random_raw(len(weight_R) + 1)
  order_R = random_R[1:].argsort(kind='stable')
  end_R = np.cumsum(weight_R[order_R])
  total = int(end_R[-1])
  offset = int(random_R[0]) % total
  points = [(n * total + offset) // count for n in range(count)]
  return order_R[np.searchsorted(end_R, points, side='right')]


def results(
  config: CurriculumConfig,
  records: Sequence[Record],
  rewards: Rewards,
) -> dict[str, float]:
  """The mean of config.reward, within 0 and 1, over the samples of each record,
  by its id. `records` are those of the samples. Rewards that are not known are
  left out."""
  if not config.by_success:
    return {}
  found: dict[str, list[float]] = {}
  values_N = rewards.parts[config.reward].tolist()
  for n, record in enumerate(records):
    if not math.isnan(values_N[n]):
      value = min(max(values_N[n], 0.0), 1.0)
      found.setdefault(record['id'], []).append(value)
  return {name: math.fsum(x) / len(x) for name, x in found.items()}


def updated(success: Success, found: Success) -> dict[str, float]:
  """The estimates after further results: the mean of the old estimate and the
  result, or the first result."""
  new = dict(success)
  for name, value in found.items():
    old = new.get(name, value)
    new[name] = MEMORY * old + (1 - MEMORY) * value
  return new


def _easiest(config, difficulty_R, number_R, step):
  """The share of the easiest records that is sampled after `step` updates."""
  share = config.start + (1 - config.start) * step / config.steps
  size = max(1, round(share * len(number_R)))
  order_R = np.argsort(difficulty_R[number_R], kind='stable')
  return number_R[order_R[:size]]


def _weights(config, names, success):
  """4 p (1 - p) of the success p, at least config.min_weight, as integers. It
  is proportional to the variance of a group's rewards."""
  weights = []
  for name in names:
    p = success.get(name, 0.5)
    weights.append(round(SCALE * max(4 * p * (1 - p), config.min_weight)))
  return np.array(weights, np.int64)
