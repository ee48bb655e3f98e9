"""The verifiers of a stage: what a response answers is found here, judged by
rules, by mathematics or by tests in processes that can be killed, and
remembered."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import threading

import numpy as np

from r1jax.config import option
from r1jax.rewards import choice, registry
from r1jax.rewards.code import unit_tests
from r1jax.rewards.math import grading
from r1jax.rewards.verdict import Verdict
from r1jax.sandbox import tiers, workers

# Of a worker, because of what it was given: no credit.
UNDECIDED = 'timeout', 'memory', 'crashed', 'input', 'output'
GIVEN_UP = *UNDECIDED, 'infra'


@dataclasses.dataclass(frozen=True)
class VerifyConfig:
  workers: int = option(
    0, 'processes that judge; 0: one for each core', least=0
  )
  seconds: float = option(
    2.0, 'CPU seconds to compare two mathematical answers', least=0.01
  )
  memory: int = option(1024, 'MiB that a judging process may have', least=64)
  program_seconds: float = option(
    4.0, 'CPU seconds of a program (for each test that it reads)', least=0.01
  )
  program_memory: int = option(512, 'MiB that a program may have', least=16)
  suite_seconds: float = option(
    60.0, 'CPU seconds for all tests of a response', least=0.01
  )
  partial: bool = option(False, 'credit for the share of tests that pass')
  service: str = option(
    '', 'URL of a SandboxFusion service, where there is no other sandbox'
  )
  cache: int = option(100_000, 'verdicts that are remembered', least=0)


@contextlib.contextmanager
def open_verifiers(c, records=()):
  """Verifiers for these records; their processes are gone afterwards."""
  verifiers = Verifiers(c, records)
  try:
    yield verifiers
  finally:
    verifiers.close()


class Verifiers:
  """Rewards that need processes of their own, usable from any thread.

  A verdict is remembered by record and answer, so that equal answers are
  judged once and alike. `counts` has how often each kind of verdict was given.
  """

  def __init__(self, c, records):
    self.c, self.lock = c, threading.Lock()
    self.known = collections.OrderedDict()
    self.counts = collections.Counter()
    count = c.workers or os.cpu_count()
    self.mathematics = workers.Pool(count, c.seconds, c.memory << 20)
    self.programs = workers.Pool(count, c.suite_seconds, c.memory << 20)
    self.tier = None
    if any(registry.is_code(record) for record in records):
      self.tier = tiers.find(c.service)
      print(f'programs run in the sandbox tier {self.tier.name}', flush=True)

  @property
  def tier_name(self) -> str | None:
    """The name of the sandbox tier that programs run in, if any do."""
    return self.tier.name if self.tier else None

  @property
  def rules(self):
    """The rewards that these verifiers give, by name."""
    return dict(accuracy=self.accuracy)

  def accuracy(self, records, texts):
    """The verdicts' values; masked where nothing could be judged."""
    return values(self.verdicts(records, texts))

  def verdicts(self, records, texts):
    """A Verdict on the accuracy of each text."""
    with self.lock:
      keys = [key_of(r, t) for r, t in zip(records, texts, strict=True)]
      new = {
        key: record
        for key, record in zip(keys, records)
        if key[1] is not None and key not in self.known
      }
      found = dict(zip(new, self._judge(list(new.values()), list(new))))
      verdicts = [self._verdict(key, found) for key in keys]
      self.counts.update(x.kind for x in verdicts)
      for (key, _), verdict in found.items():
        if np.isnan(verdict.value):
          said = f'record {key[0]} was not judged: {verdict.reason}'
          print(said, file=sys.stderr, flush=True)
      for key, verdict in found.items():
        if not np.isnan(verdict.value):
          self.known[key] = verdict
      while len(self.known) > self.c.cache:
        self.known.popitem(last=False)
    return verdicts

  def taken(self):
    """{kind: verdicts since the last call} of those that somebody gave up."""
    with self.lock:
      given = {kind: self.counts.pop(kind, 0) for kind in GIVEN_UP}
    return given

  def close(self):
    self.mathematics.close()
    self.programs.close()

  def _verdict(self, key, found):
    if key[1] is None:
      return Verdict(0.0, 'no answer', 'there is no final answer to judge')
    return found[key] if key in found else self.known[key]

  def _judge(self, records, keys):
    """Verdicts on answers that are new, in order."""
    verdicts, sums, programs = {}, [], []
    for n, (record, (_, answer)) in enumerate(zip(records, keys)):
      if registry.is_code(record):
        programs.append(n)
      elif 'choices' in record:
        verdicts[n] = by_letter(record, answer)
      elif (equal := grading.exact(answer, record['answer'])) is None:
        sums.append(n)
      else:
        verdicts[n] = by_rule(equal, answer, record['answer'])
    jobs = [[keys[n][1], records[n]['answer']] for n in sums]
    answers = self.mathematics.map('r1jax.rewards.math.symbolic:equal', jobs)
    for n, answer in zip(sums, answers):
      verdicts[n] = by_mathematics(answer)
    c = self.c
    limits = dict(seconds=c.program_seconds, memory=c.program_memory << 20)
    jobs = [
      [
        unit_tests.tests_of(records[n]),
        keys[n][1],
        self.tier,
        limits,
        c.partial,
      ]
      for n in programs
    ]
    answers = self.programs.map('r1jax.rewards.code.unit_tests:judged', jobs)
    for n, answer in zip(programs, answers):
      verdicts[n] = by_tests(answer)
    return [verdicts[n] for n in range(len(records))]


def values(verdicts):
  """The verdicts as a reward; masked where nothing could be judged."""
  value_N = np.array([x.value for x in verdicts], np.float32)
  return np.ma.masked_invalid(value_N)


def key_of(record, text):
  """(the record and what makes an answer to it right, the answer or None)."""
  if registry.is_code(record):
    right, answer = unit_tests.tests_of(record), unit_tests.extract(text)
  else:
    right = [record['answer'], record.get('choices')]
    answer = grading.extract(text)
  digest = hashlib.blake2b(json.dumps(right).encode(), digest_size=16).digest()
  return (str(record['id']), digest), answer


def by_letter(record, answer):
  """Whether the answer names the record's choice."""
  letter = choice.chosen(record, answer)
  kind = 'equal' if letter == record['answer'] else 'unequal'
  said = f'names the choice {letter}' if letter else 'names no choice'
  return Verdict(
    float(kind == 'equal'),
    kind,
    f'{shown(answer)} {said}, the gold is {record["answer"]}',
  )


def by_rule(equal, answer, gold):
  """What the exact rules said."""
  kind = 'equal' if equal else 'unequal'
  return Verdict(
    float(equal),
    kind,
    f'{shown(answer)} is {"" if equal else "not "}'
    f'{shown(gold)}, by the exact rules',
  )


def by_mathematics(answer):
  """What a worker said of two answers that only mathematics could tell."""
  if answer.failure in UNDECIDED:
    return Verdict(
      0.0, answer.failure, f'not decided within its limits ({answer.failure})'
    )
  if answer.failure:
    return lost(answer.failure)
  equal, reason = answer.value
  return Verdict(float(equal), 'equal' if equal else 'unequal', reason)


def by_tests(answer):
  """What a worker said of a program's tests."""
  if answer.failure in UNDECIDED:
    return Verdict(
      0.0,
      answer.failure,
      f'the tests did not end within their limits ({answer.failure})',
    )
  if answer.failure:
    return lost(answer.failure)
  value, kind, reason = answer.value
  # JSON has no NaN: a worker says None for what it could not judge.
  return Verdict(float('nan') if value is None else value, kind, reason)


def lost(failure):
  """The verdict on what could not be judged: this sample leaves the update."""
  return Verdict(float('nan'), 'infra', f'the verifier failed: {failure}')


def shown(text):
  """A piece of text for a reason."""
  return repr(text if len(text) <= 60 else text[:57] + '…')
