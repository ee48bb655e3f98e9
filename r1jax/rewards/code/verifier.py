"""The verifier of programs."""

import re

from r1jax.rewards import format, verdict
from r1jax.rewards.code import unit_tests
from r1jax.rewards.verdict import Records, Texts, Verdict, VerifyConfig
from r1jax.sandbox import tiers

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


class ProgramVerifier(verdict.Verifier):
  """Runs a record's tests in a worker, and the program in a sandbox."""

  handles = staticmethod(unit_tests.is_code)
  check = staticmethod(unit_tests.check_tests)
  extract = staticmethod(extract_program)

  def __init__(self, config: VerifyConfig, records: Records) -> None:
    tier = None
    if any(map(unit_tests.is_code, records)):
      tier = tiers.find(config.service)
      print(f'programs run in the sandbox tier {tier.name}', flush=True)
      self.tier_name = tier.name
    memory = config.program_memory << 20
    limits = dict(seconds=config.program_seconds, memory=memory)
    self.settings = tier, limits, config.partial
    self.pool = verdict.open_pool(config, config.suite_seconds)

  def judge(self, records: Records, answers: Texts) -> list[Verdict]:
    tests = map(unit_tests.tests_of, records)
    jobs = [[test, code, *self.settings] for test, code in zip(tests, answers)]
    return [verdict.of_result(result) for result in self.pool.map(JUDGE, jobs)]
