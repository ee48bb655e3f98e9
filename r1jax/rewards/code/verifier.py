"""The verifier of programs."""

import dataclasses
import json

from r1jax.rewards import verdict
from r1jax.rewards.code import cases, extraction, unit_tests
from r1jax.rewards.verdict import Records, Texts, Verdict, VerifyConfig
from r1jax.sandbox import tiers
from r1jax.sandbox.tiers import Limits

JUDGE = 'r1jax.rewards.code.unit_tests:judge_json'  # a worker calls it
SECONDS = 60.0  # CPU seconds of a worker, beside those of the programs
# Of a worker's wall time to the programs'; on a busy machine they wait for CPUs.
FACTOR, GRACE = 4, 240.0


def extract_program(text: str, entry_point: str = '') -> str | None:
  """The program of a response that defines an entry point, or reads stdin."""
  return extraction.program(extraction.blocks(text), entry_point)


class ProgramVerifier(verdict.Verifier):
  """Runs a record's tests in a worker, and the program in a sandbox."""

  handles = staticmethod(unit_tests.is_code)
  check = staticmethod(unit_tests.check_tests)
  extract = staticmethod(extraction.encoded_blocks)

  def __init__(self, config: VerifyConfig, records: Records) -> None:
    tier = None
    programs = [record for record in records if unit_tests.is_code(record)]
    if programs:
      tier = tiers.find(config.service)
      print(f'programs run in the sandbox tier {tier.name}', flush=True)
      self.tier_name = tier.name
    limits = Limits(
      seconds=config.program_seconds,
      wall=config.program_wall_seconds,
      memory=config.program_memory << 20,
      output=config.program_output << 20,
      suite_seconds=config.suite_seconds,
      suite_wall=config.suite_wall_seconds,
    )
    self.settings = tier, dataclasses.asdict(limits), config.partial
    walls = [cases.limits_of(record, limits).suite_wall for record in programs]
    wall = FACTOR * max(walls, default=0) + GRACE
    self.pool = verdict.open_pool(config, SECONDS, wall)

  def judge(self, records: Records, answers: Texts) -> list[Verdict]:
    """One verdict a text of encoded_blocks."""
    jobs = []
    for record, answer in zip(records, answers, strict=True):
      entry = '' if cases.reads_stdin(record) else record['entry_point']
      found = [extraction.Block(*block) for block in json.loads(answer)]
      code = extraction.program(found, entry)
      jobs.append([unit_tests.tests_of(record), code, *self.settings])
    return [verdict.of_result(result) for result in self.pool.map(JUDGE, jobs)]
