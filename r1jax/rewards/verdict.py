"""The types that rewards and verifiers share."""

import math
from collections.abc import Sequence
from typing import NamedTuple

Record = dict
Records = Sequence[Record]
Texts = Sequence[str]

# Failures of a worker that an answer itself can cause; 'infra' are all others.
ANSWER_FAILURES = 'timeout', 'memory', 'crashed', 'input', 'output'
FAILURES = *ANSWER_FAILURES, 'infra'


class Verdict(NamedTuple):
  """The result for one response."""

  value: float  # the reward, 0 to 1; NaN if the verifier itself failed
  kind: str  # a category to count by
  reason: str  # an explanation, to debug a reward


def equality(is_equal: bool, reason: str) -> Verdict:
  """Full credit for an answer that equals the gold answer, else none."""
  return Verdict(float(is_equal), 'equal' if is_equal else 'unequal', reason)


def of_result(result) -> Verdict:
  """The Verdict that a worker returned; else 0 if the answer exceeded a limit,
  or NaN if the verifier failed, so that the sample leaves the update."""
  kind = result.failure
  if not kind:
    return Verdict(*result.value)
  if kind in ANSWER_FAILURES:
    return Verdict(0.0, kind, f'not decided within its limits ({kind})')
  return Verdict(math.nan, 'infra', f'the verifier failed: {kind}')


def quote(text: str) -> str:
  """At most 80 characters of a text, for a reason."""
  return repr(text if len(text) <= 80 else text[:77] + '…')
