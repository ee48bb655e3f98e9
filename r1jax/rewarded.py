"""When and where the rewards of a rollout are computed: each host judges rows
of its own, while the devices go on, and all learn what all found."""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future

import numpy as np

from r1jax import hosts, rewards

Judged = Callable[[], tuple[np.ndarray, dict[str, np.ndarray]]]


def later(
  executor: Executor,
  weights: Mapping[str, float],
  records: Sequence[rewards.Record],
  texts: Sequence[str],
  by_domain: Mapping[str, Mapping[str, float]],
  rules: Mapping[str, rewards.Reward],
  models: Mapping[str, rewards.Reward],
) -> Judged:
  """rewards.total as judged(), which waits for the executor; models, which
  hold devices, are asked here and now about the rows of all hosts, for all
  hosts must run them in one order."""
  own = hosts.share(len(texts))
  promised = {name: Future() for name in models}
  answers = {
    name: lambda records, texts, future=future: future.result()
    for name, future in promised.items()
  }
  found = executor.submit(
    rewards.total, weights, records[own], texts[own], by_domain,
    {**rules, **answers},
  )  # fmt: skip
  tables = [rewards.weights_of(weights, by_domain, x) for x in records]
  for name, model in models.items():
    asked = [n for n, table in enumerate(tables) if name in table]
    if not asked:
      continue
    try:
      value_N = model([records[n] for n in asked], [texts[n] for n in asked])
      mine = [own.start <= n < own.stop for n in asked]
      promised[name].set_result(value_N[mine])
    except BaseException as error:
      for future in promised.values():
        future.done() or future.set_exception(error)
      raise
  # Once: the first to ask has the hosts exchange what they found.
  return functools.cache(lambda: everyones(*found.result()))


def everyones(reward_N, parts):
  """The (rewards, parts) of the rows of all hosts, from those of each."""
  if hosts.count() == 1:
    return reward_N, parts
  columns = dict(parts) if reward_N is None else dict(parts, **{'': reward_N})
  many = hosts.gather({name: x.tolist() for name, x in columns.items()})
  found = {
    name: np.array([x for host in many for x in host[name]], np.float32)
    for name in columns
  }
  return found.pop('', None), found
