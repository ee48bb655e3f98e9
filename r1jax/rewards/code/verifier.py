"""The verifier of programs."""

import re

from r1jax.rewards import format, registry, verdict
from r1jax.rewards.code import unit_tests
from r1jax.rewards.verdict import Record, Records, Texts, Verdict
from r1jax.sandbox import workers
from r1jax.sandbox.tiers import Tier

JUDGE = 'r1jax.rewards.code.unit_tests:judge_json'  # a worker calls it
LANGUAGES = '', 'python', 'python3', 'py'
FENCE = re.compile(r' {0,3}```+ *([\w+-]*)[^`]*\Z')


def extract_program(text: str) -> str | None:
  """The last closed Python block in the answer part of a response, or None."""
  text, _ = format.answer_part(text)
  found, language = None, ''
  block: list[str] | None = None
  for line in text.replace('\r\n', '\n').split('\n'):
    fence = FENCE.match(line)
    if block is None:
      if fence:
        block, language = [], fence[1].lower()
    elif fence and not line.strip(' `'):
      if language in LANGUAGES:
        found = '\n'.join(block) + '\n'
      block = None
    else:
      block.append(line)
  return found


class ProgramVerifier:
  """Runs a record's tests in a worker, and the program in a sandbox. limits are
  the keywords of tiers.Limits; for partial, see unit_tests.judge."""

  def __init__(
    self, pool: workers.Pool, tier: Tier | None, limits: dict, partial: bool
  ) -> None:
    self.pool, self.tier = pool, tier
    self.limits, self.partial = limits, partial

  def handles(self, record: Record) -> bool:
    return registry.is_code(record)

  def extract(self, text: str) -> str | None:
    return extract_program(text)

  def judge(self, records: Records, answers: Texts) -> list[Verdict]:
    jobs = []
    for record, code in zip(records, answers):
      tests = unit_tests.tests_of(record)
      jobs.append([tests, code, self.tier, self.limits, self.partial])
    return [verdict.of_result(result) for result in self.pool.map(JUDGE, jobs)]
