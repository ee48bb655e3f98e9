"""The verifiers of a run, with their worker processes and a verdict cache."""

import collections
import hashlib
import json
import math
import threading
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from r1jax import errors
from r1jax.rewards import registry
from r1jax.rewards.registry import Reward
from r1jax.rewards.user_rewards import UserReward
from r1jax.rewards.verdict import (
  FAILURES,
  OUTAGE,
  OUTAGES,
  Record,
  Records,
  Texts,
  Verdict,
  Verifier,
  VerifyConfig,
  print_unjudged,
)

NO_ANSWER = Verdict(0.0, 'no answer', 'the response has no final answer')


class Verifiers:
  """The accuracy reward, computed in worker processes, and the user's rewards
  reward_names. Thread-safe.

  Verdicts are cached by record and answer, so equal answers get the same
  verdict. `counts` is the number of verdicts of each kind. tier_name is the
  sandbox tier of programs, None without programs.
  """

  def __init__(
    self,
    config: VerifyConfig,
    records: Records = (),
    reward_names: Iterable[str] = (),
  ) -> None:
    self.config, self.lock = config, threading.Lock()
    self.cache: collections.OrderedDict = collections.OrderedDict()
    self.counts: collections.Counter[str] = collections.Counter()
    classes = registry.verifiers_of(config)
    self.verifiers: list[Verifier] = [cls(config, records) for cls in classes]
    names = [x.tier_name for x in self.verifiers if x.tier_name]
    self.tier_name = names[0] if names else None
    self.user_rewards = [UserReward(name, config) for name in reward_names]
    self.rules: dict[str, Reward] = {x.name: x for x in self.user_rewards}
    self.rules['accuracy'] = self.accuracy
    try:
      for verifier in self.verifiers:
        own = [x for x in records if self.verifier_of(x) is verifier]
        verifier.prepare(own)
    except errors.UserError:
      self.__exit__()
      raise

  def accuracy(self, records: Records, texts: Texts) -> np.ndarray:
    """The values of the verdicts; masked where a verifier failed or a scorer
    does not judge."""
    verdicts = self.verdicts(records, texts)
    failed = [x.kind == 'infra' and math.isnan(x.value) for x in verdicts]
    value_N = np.array([x.value for x in verdicts], np.float32)
    return np.ma.masked_invalid(np.where(failed, OUTAGE, value_N))

  def verdicts(self, records: Records, texts: Texts) -> list[Verdict]:
    """A verdict on the final answer of each text."""
    with self.lock:
      keys = [self.key(r, text) for r, text in zip(records, texts, strict=True)]
      new_records = {}
      for key, record in zip(keys, records):
        if key[-1] is not None and key not in self.cache:
          new_records[key] = record
      new = self._judge(new_records)
      known = collections.ChainMap(new, self.cache)
      verdicts = [known.get(key, NO_ANSWER) for key in keys]
      self.counts.update(verdict.kind for verdict in verdicts)
      print_unjudged(
        [
          f'record {name} was not verified: {verdict.reason}'
          for (name, *_), verdict in new.items()
          if np.isnan(verdict.value)
        ]
      )
      # Those are not cached, so they are verified again.
      self.cache.update((k, x) for k, x in new.items() if not np.isnan(x.value))
      while len(self.cache) > self.config.cache:
        self.cache.popitem(last=False)
    return verdicts

  def key(self, record: Record, text: str) -> tuple[str, bytes, str | None]:
    """What a verdict depends on: (record's id, its digest, final answer)."""
    data = json.dumps(dict(record), default=repr).encode()
    digest = hashlib.blake2b(data, digest_size=16).digest()
    return str(record['id']), digest, self.final_answer(record, text)

  def final_answer(self, record: Record, text: str) -> str | None:
    """The final answer of a response, which is verified; None without one."""
    return self.verifier_of(record).extract(text)

  def verifier_of(self, record: Record) -> Verifier:
    """The verifier that judges answers to a record."""
    return next(x for x in self.verifiers if x.handles(record))

  def pop_failure_counts(self) -> dict[str, int]:
    """The number of failures since the last call by kind."""
    with self.lock:
      return {kind: self.counts.pop(kind, 0) for kind in FAILURES}

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: object) -> None:
    """Ends all worker processes."""
    owners: list[Any] = [*self.verifiers, *self.user_rewards]
    for owner in owners:
      if owner.pool:
        owner.pool.close()

  def _judge(self, records):
    """{key: verdict} of a dict {key: record}."""
    found = {}
    for verifier in self.verifiers:
      keys = [k for k, r in records.items() if self.verifier_of(r) is verifier]
      own, answers = [records[key] for key in keys], [key[-1] for key in keys]
      try:
        verdicts = verifier.judge(own, answers)
      except OUTAGES as error:
        reason = f'the verifier failed: {type(error).__name__}: {error}'
        verdicts = [Verdict(math.nan, 'infra', reason)] * len(own)
      found |= zip(keys, verdicts)
    return found
