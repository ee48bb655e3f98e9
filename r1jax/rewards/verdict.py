"""The types that rewards and verifiers share."""

import dataclasses
import http.client
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from r1jax import errors
from r1jax.config import option
from r1jax.data import gold_answers
from r1jax.data.bad_records import BadRecords
from r1jax.distributed import watchdog
from r1jax.sandbox import workers

Record = Mapping[str, Any]
Records = Sequence[Record]
Texts = Sequence[str]

# Failures of a worker that an answer itself can cause; 'infra' are all others.
ANSWER_FAILURES = 'timeout', 'memory', 'crashed', 'input', 'output'
# 'unjudged' is a decision or a fault of the user's scorer.
FAILURES = *ANSWER_FAILURES, 'unjudged', 'infra'
# What a verifier raises if the machine, the network or a service fails: no
# process can be started, a connection is refused.
OUTAGES = OSError, subprocess.SubprocessError, http.client.HTTPException
# The data of a masked reward that an outage, and no decision, left unknown.
OUTAGE = np.inf
MAX_LINES = 3  # about texts that were not judged, of each batch
# What is wrong with a record that has no gold answer, or none in its answer.
NO_GOLD = (
  "has no answer to compare with: add 'answer', or a 'solution' that ends with "
  r'\boxed{…}'
)
PROSE = (
  "'answer' has several sentences or lines: give the final answer alone, or "
  r'mark it by "#### …" or \boxed{…}'
)


class Verdict(NamedTuple):
  """The result for one response."""

  value: float  # the reward, 0 to 1; NaN if the verifier itself failed
  kind: str  # a category to count by
  reason: str  # an explanation, to debug a reward


@dataclasses.dataclass(frozen=True)
class VerifyConfig:
  """The limits of verifiers, and which of them judge."""

  workers: int = option(
    0, 'number of processes; 0: one per core', minimum=0, is_free=True
  )
  seconds: float = option(2.0, 'CPU seconds to compare answers', minimum=0.01)
  memory: int = option(1024, 'MiB of memory of such a process', minimum=64)
  final_form: bool = option(
    True,
    'whether a gold answer that is a number asks for a number: then 140/2 and '
    '35+35 are not 70; a record may have its own final_form',
  )
  program_seconds: float = option(6.0, 'CPU seconds of a test', minimum=0.01)
  program_wall_seconds: float = option(
    0.0, 'seconds of wall time of a test; 0: 2 x program_seconds + 5', minimum=0
  )
  program_memory: int = option(1024, 'MiB of memory of a program', minimum=16)
  program_output: int = option(
    16, 'MiB of the output of a test, or of an answer', minimum=1
  )
  suite_seconds: float = option(
    0.0,
    'CPU seconds of all tests; 0: (program_seconds + 1) x tests + 5',
    minimum=0,
  )
  suite_wall_seconds: float = option(
    0.0, 'seconds of wall time of all tests; 0: twice suite_seconds', minimum=0
  )
  math_verifier: Literal['r1jax', 'math_verify'] = option(
    'r1jax', 'who compares mathematics: r1jax, or math_verify (a package)'
  )
  partial: bool = option(False, 'credit for the share of tests that pass')
  service: str = option('', 'SandboxFusion URL, used if no local sandbox works')
  cache: int = option(
    100_000, 'max. number of cached verdicts', minimum=0, is_free=True
  )


def open_pool(
  config: VerifyConfig, seconds: float, wall: float = 0.0
) -> workers.Pool:
  """A pool of workers that have `seconds` of CPU time for a job, and `wall`
  seconds of wall time as in workers.Pool."""
  count = config.workers or os.cpu_count() or 1
  memory = config.memory << 20
  return workers.Pool(count, seconds, memory, wall, watchdog.expected)


class Verifier:
  """Verifies answers to one kind of record; registry.VERIFIERS and
  registry.MATH_VERIFIERS list all."""

  tier_name: str | None = None  # the sandbox tier, if programs run
  pool: Any = None  # of workers; Verifiers closes it

  def __init__(self, config: VerifyConfig, records: Records) -> None:
    """Prepares for these records."""

  def prepare(self, records: Records) -> None:
    """Checks, before the first answer, the records that it verifies, as far as
    `check_all` does not. Raises UserError."""

  @staticmethod
  def handles(record: Record) -> bool:
    """Whether it verifies answers to this record."""
    raise NotImplementedError

  @staticmethod
  def check(record: Record) -> None:
    """Raises UserError if the gold answer is not readable."""
    raise NotImplementedError

  @classmethod
  def check_all(
    cls, config: VerifyConfig, records: Records, bad: BadRecords
  ) -> list[Record]:
    """The records whose gold answer is readable; others are noted in `bad`."""
    kept = []
    for record in records:
      with bad.noted(record['id']):
        cls.check(record)
        kept.append(record)
    return kept

  @staticmethod
  def extract(text: str) -> str | None:
    """The final answer of a response, or None."""
    raise NotImplementedError

  def judge(self, records: Records, answers: Texts) -> list[Verdict]:
    """One verdict an answer."""
    raise NotImplementedError


def best_of_golds(
  judge: Callable[[Records, Texts], list[Verdict]],
  records: Records,
  answers: Texts,
) -> list[Verdict]:
  """The verdicts of judge(records, answers). A record whose gold answer is a
  list of alternatives is judged by each of them: an answer is right if one
  verdict is, and else unknown if one is."""
  golds_N = [gold_answers.alternatives(record['answer']) for record in records]
  rows, texts = [], []
  for record, answer, golds in zip(records, answers, golds_N, strict=True):
    rows += [{**record, 'answer': gold} for gold in golds]
    texts += [answer] * len(golds)
  verdicts, best = iter(judge(rows, texts)), []
  for golds in golds_N:
    found = [next(verdicts) for _ in golds]
    right = [x for x in found if x.value == 1]
    unknown = [x for x in found if math.isnan(x.value)]
    best.append([*right, *unknown, *found][0])
  return best


def equality(is_equal: bool, reason: str) -> Verdict:
  """Full credit for an answer that equals the gold answer, else none."""
  return Verdict(float(is_equal), 'equal' if is_equal else 'unequal', reason)


def of_result(result) -> Verdict:
  """The Verdict that a worker returned; else 0 if the answer exceeded a limit,
  or NaN if the verifier failed; the sample is then excluded from the update."""
  kind = result.failure
  if not kind:
    return Verdict(*result.value)
  if kind in ANSWER_FAILURES:
    return Verdict(0.0, kind, f'not decided within its limits ({kind})')
  return Verdict(math.nan, 'infra', f'the verifier failed: {kind}')


def print_unjudged(lines: Sequence[str]) -> None:
  """Prints lines about texts that were not judged: a few, and a count."""
  shown = list(lines[:MAX_LINES])
  if len(lines) > MAX_LINES:
    shown.append(f'… and {len(lines) - MAX_LINES} more were not judged')
  for line in shown:
    print(errors.printable(line), file=sys.stderr, flush=True)


def quote(text: str) -> str:
  """At most 80 characters of a text, for a reason."""
  return repr(text if len(text) <= 80 else text[:77] + '…')
