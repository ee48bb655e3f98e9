"""Mixtures of sources: which record each position of a run takes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from r1jax import errors
from r1jax.data import record_files, stored_records, tasks
from r1jax.data.bad_records import BadRecords
from r1jax.data.formats import Record

KEY = 'mixture'  # of a record: its source, where there are several
CYCLE = 1000  # positions among which each source has its share


# The numbers of records by their source.
Groups = Mapping[str, np.ndarray]


class Part(NamedTuple):
  """The records of a source, and the positions that take one of them."""

  number_R: np.ndarray  # of its records among all
  place_N: np.ndarray  # of these positions among those that are asked for
  turn_N: np.ndarray  # how often a position took one of its records before


def load_records(
  source: str,
  weights: Mapping[str, float],
  seed: int,
  bad: BadRecords | None = None,
  config_columns: Mapping[str, str] = {},
) -> list[Record]:
  """The records of a source, or of all sources of a mixture, {source: weight}.
  Those of a mixture have their source under KEY. Raises UserError."""
  if not weights:
    return tasks.load_records(source, seed, bad, config_columns)
  check(source, weights)
  records, names = list[Record](), set[str]()
  stored = stored_records.RowFile()
  for number, source_name in enumerate(sorted(weights)):
    if not weights[source_name]:
      continue
    for record in tasks.load_records(source_name, seed, bad, config_columns):
      name = record['id']
      if name in names:  # Files of two folders may have the same name.
        name = f'{name}@{number}'
      names.add(name)
      marked = {**record, 'id': name, KEY: source_name}
      records.append(stored_records.store(stored, marked))
  return records


def check(source: str, weights: Mapping[str, float]) -> None:
  """Raises UserError for weights that are no shares, or for a source beside
  them."""
  if source:
    raise errors.UserError(
      f'the config names the records {source} and a mixture of '
      f'{", ".join(weights)}: set one of them'
    )
  for name, weight in weights.items():
    if not 0 <= weight < math.inf:
      raise errors.UserError(
        f'the weight of {name} in the mixture is {weight}: it must be 0 or more'
      )
  if not sum(weights.values()):
    raise errors.UserError(
      f'the weights of {", ".join(weights)} in the mixture are all 0'
    )


def name_of(source: str, weights: Mapping[str, float]) -> str:
  """The source or the sources of the records, for errors."""
  return ' + '.join(weights) or source


def groups(
  records: Sequence[Record], weights: Mapping[str, float]
) -> dict[str, np.ndarray]:
  """{source: the numbers of its records}, without sources that have no record;
  {'': all numbers} without a mixture. The sources are in alphabetical order, so
  the order in which a config names them changes nothing."""
  if not weights:
    return {'': np.arange(len(records))}
  numbers: dict[str, list[int]] = {name: [] for name in sorted(weights)}
  for number, record in enumerate(records):
    numbers[record[KEY]].append(number)
  return {name: np.array(x) for name, x in numbers.items() if x}


def indices(
  number_of: Groups,
  weights: Mapping[str, float],
  seed: int,
  start: int,
  count: int,
) -> np.ndarray:
  """The numbers of the records that positions `start` to `start + count` take,
  of the groups of a mixture: a pure function, so that a resumed run continues
  anywhere."""
  chosen_N = np.empty(count, np.int64)
  for part in parts(number_of, weights, seed, start, count):
    size = len(part.number_R)
    index_N = record_files.permuted(seed, part.turn_N, size)
    chosen_N[part.place_N] = part.number_R[index_N]
  return chosen_N


def parts(
  number_of: Groups,
  weights: Mapping[str, float],
  seed: int,
  start: int,
  count: int,
) -> Iterator[Part]:
  """The parts of the positions `start` to `start + count`. Of each CYCLE
  positions a source gets the share of its weight among the sources that have
  records, in an order that depends on the seed."""
  position_N = np.arange(start, start + count)
  if not weights:
    yield Part(number_of[''], np.arange(count), position_N)
    return
  quotas = _quotas([weights[name] for name in number_of])
  first = np.cumsum(quotas) - quotas
  slot_N = record_files.permuted(seed, position_N, CYCLE)
  part_N = np.repeat(np.arange(len(number_of)), quotas)[slot_N]
  turn_N = position_N // CYCLE * quotas[part_N] + slot_N - first[part_N]
  for n, number_R in enumerate(number_of.values()):
    place_N = np.flatnonzero(part_N == n)
    yield Part(number_R, place_N, turn_N[place_N])


def _quotas(weights):
  """CYCLE positions in proportion to weights, each at least one."""
  exact = np.array(weights) / sum(weights) * CYCLE
  quotas = np.maximum(np.floor(exact), 1).astype(np.int64)
  by_rest = np.argsort(quotas - exact, kind='stable')
  for n in range(CYCLE - quotas.sum()):
    quotas[by_rest[n % len(quotas)]] += 1
  while quotas.sum() > CYCLE:
    quotas[quotas.argmax()] -= 1
  return quotas
