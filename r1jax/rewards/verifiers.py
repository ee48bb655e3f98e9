"""The verifiers of a run, their processes and a cache of their verdicts."""

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import threading
from typing import Any

import numpy as np

from r1jax.config import option
from r1jax.rewards import registry
from r1jax.rewards.choice import ChoiceVerifier
from r1jax.rewards.code.verifier import ProgramVerifier
from r1jax.rewards.math.grading import MathVerifier
from r1jax.rewards.registry import Reward
from r1jax.rewards.verdict import FAILURES, Record, Records, Texts, Verdict
from r1jax.sandbox import tiers, workers

NO_ANSWER = Verdict(0.0, 'no answer', 'there is no final answer to judge')


@dataclasses.dataclass(frozen=True)
class VerifyConfig:
  workers: int = option(0, 'number of processes; 0: one per core', minimum=0)
  seconds: float = option(2.0, 'CPU seconds to compare answers', minimum=0.01)
  memory: int = option(1024, 'MiB of memory of such a process', minimum=64)
  program_seconds: float = option(
    4.0, 'CPU seconds of a program (for each test that it reads)', minimum=0.01
  )
  program_memory: int = option(512, 'MiB of memory of a program', minimum=16)
  suite_seconds: float = option(60.0, 'CPU seconds for all tests', minimum=0.01)
  partial: bool = option(False, 'credit for the share of tests that pass')
  service: str = option(
    '', 'URL of a SandboxFusion service, used if no local sandbox works'
  )
  cache: int = option(100_000, 'max. number of cached verdicts', minimum=0)


class Verifiers:
  """The accuracy reward, computed in worker processes. Thread-safe.

  Verdicts are cached by record and answer, so that equal answers are judged
  once and alike. `counts` is the number of verdicts of each kind. tier_name is
  the sandbox tier of programs, None without programs.
  """

  def __init__(self, config: VerifyConfig, records: Records) -> None:
    self.config, self.lock = config, threading.Lock()
    self.cache: collections.OrderedDict = collections.OrderedDict()
    self.counts: collections.Counter[str] = collections.Counter()
    tier = None
    if any(registry.is_code(record) for record in records):
      tier = tiers.find(config.service)
      print(f'programs run in the sandbox tier {tier.name}', flush=True)
    self.tier_name = tier.name if tier else None
    count, memory = config.workers or os.cpu_count() or 1, config.memory << 20
    self.math_pool = workers.Pool(count, config.seconds, memory)
    self.program_pool = workers.Pool(count, config.suite_seconds, memory)
    limits = dict(
      seconds=config.program_seconds, memory=config.program_memory << 20
    )
    # Each handles(record), extracts the final answer of a text, None without
    # one, and judges (records, answers). The first that handles a record does.
    self.verifiers: tuple[Any, ...] = (
      ProgramVerifier(self.program_pool, tier, limits, config.partial),
      ChoiceVerifier(),
      MathVerifier(self.math_pool),
    )
    self.rules: dict[str, Reward] = dict(accuracy=self.accuracy)

  def accuracy(self, records: Records, texts: Texts) -> np.ndarray:
    """The values of the verdicts; masked where a verifier failed."""
    verdicts = self.verdicts(records, texts)
    value_N = np.array([verdict.value for verdict in verdicts], np.float32)
    return np.ma.masked_invalid(value_N)

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
      for (name, *_), verdict in new.items():
        if np.isnan(verdict.value):  # not cached, so that it is judged again
          line = f'record {name} was not judged: {verdict.reason}'
          print(line, file=sys.stderr, flush=True)
      self.cache.update((k, x) for k, x in new.items() if not np.isnan(x.value))
      while len(self.cache) > self.config.cache:
        self.cache.popitem(last=False)
    return verdicts

  def key(self, record: Record, text: str) -> tuple[str, bytes, str | None]:
    """What a verdict depends on: (record's id, its digest, final answer)."""
    data = json.dumps(record, default=repr).encode()
    digest = hashlib.blake2b(data, digest_size=16).digest()
    return str(record['id']), digest, self._verifier_of(record).extract(text)

  def pop_failure_counts(self) -> dict[str, int]:
    """The number of failures since the last call by kind."""
    with self.lock:
      return {kind: self.counts.pop(kind, 0) for kind in FAILURES}

  def close(self) -> None:
    """Ends all worker processes."""
    self.math_pool.close()
    self.program_pool.close()

  def _verifier_of(self, record):
    return next(x for x in self.verifiers if x.handles(record))

  def _judge(self, records):
    """{key: verdict} of a dict {key: record}."""
    found = {}
    for verifier in self.verifiers:
      keys = [k for k, r in records.items() if self._verifier_of(r) is verifier]
      own_records = [records[key] for key in keys]
      answers = [answer for _, _, answer in keys]
      found |= zip(keys, verifier.judge(own_records, answers))
    return found


def open_verifiers(
  config: VerifyConfig, records: Records = ()
) -> contextlib.closing[Verifiers]:
  """Verifiers for these records; ends their processes on exit."""
  return contextlib.closing(Verifiers(config, records))
