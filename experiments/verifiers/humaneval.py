"""Judges HumanEval in the sandbox: every canonical solution must pass, every
stub must fail. Measures the rate, and that of plain subprocesses.

  python -m experiments.verifiers.humaneval HumanEval.jsonl.gz [--tier landlock]
"""

import argparse
import gzip
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from r1jax import errors
from r1jax.rewards.code import unit_tests
from r1jax.sandbox import tiers, workers

STUBS = {
  'pass': '    pass\n',
  'return None': '    return None\n',
  'no function': 'x = 1\n',
}
LIMITS = dict(seconds=4.0, memory=1 << 30)
SUITE_SECONDS, WORKER_MEMORY = 60.0, 1 << 30  # of a worker: CPU time, bytes


def read(path: pathlib.Path) -> list[dict]:
  """The records of HumanEval.jsonl or HumanEval.jsonl.gz."""
  data = path.read_bytes()
  data = gzip.decompress(data) if path.suffix == '.gz' else data
  records = []
  for line in data.decode().splitlines():
    record = json.loads(line)
    record['id'] = record['task_id']
    unit_tests.check_tests(record)
    records.append(record)
  return records


def judge(
  pool: workers.Pool,
  tier: tiers.Tier,
  records: Sequence[dict],
  codes: Sequence[str],
) -> tuple[list[list], float]:
  """([value, kind, reason] of each program, seconds)."""
  began = time.perf_counter()
  jobs = []
  for record, code in zip(records, codes, strict=True):
    jobs.append([unit_tests.tests_of(record), code, tier, LIMITS, False])
  results = pool.map('r1jax.rewards.code.unit_tests:judge_json', jobs)
  seconds = time.perf_counter() - began
  return [x.value or [None, 'infra', x.failure] for x in results], seconds


def run_plain(count: int, records: Sequence[dict]) -> tuple[int, float]:
  """(number of canonical solutions that pass, seconds) in plain subprocesses.

  A model's programs must never run like this.
  """
  began = time.perf_counter()
  with ThreadPoolExecutor(count) as threads:
    passed = sum(threads.map(_passes, records))
  return passed, time.perf_counter() - began


def count_failures(
  pool: workers.Pool, name: str, tier: tiers.Tier, records: Sequence[dict]
) -> int:
  """The number of wrong verdicts in one tier, which are printed."""
  solutions = [record['canonical_solution'] for record in records]
  judge(pool, tier, records[:8], solutions[:8])  # starts the workers
  verdicts, seconds = judge(pool, tier, records, solutions)
  passed = sum(value == 1 for value, *_ in verdicts)
  print(
    f'{name}: {passed} of {len(records)} canonical solutions pass, '
    f'{len(records) / seconds:.1f} a second'
  )
  for record, verdict in zip(records, verdicts):
    if verdict[0] != 1:
      print(f'  {record["id"]} does not pass: {verdict}')
  failures = len(records) - passed
  for stub, code in STUBS.items():
    verdicts, _ = judge(pool, tier, records, [code] * len(records))
    failed = sum(value == 0 for value, *_ in verdicts)
    print(f'  {failed} of {len(records)} stubs fail ({stub})')
    failures += len(records) - failed
  return failures


def main(arguments: Sequence[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('path', type=pathlib.Path)
  parser.add_argument('--tier', help='bwrap or landlock; default: both')
  parser.add_argument('--workers', type=int, default=os.cpu_count())
  options = parser.parse_args(arguments)
  records = read(options.path)
  passed, seconds = run_plain(options.workers, records)
  print(
    f'plain subprocesses: {passed} of {len(records)} pass, '
    f'{len(records) / seconds:.1f} a second'
  )
  failures = 0
  for name, tier, reason in tiers.probe():
    if options.tier not in (None, name):
      continue
    if tier is None:
      print(f'{name} is not available: {reason}')
      continue
    with workers.Pool(options.workers, SUITE_SECONDS, WORKER_MEMORY) as pool:
      failures += count_failures(pool, name, tier, records)
  return min(failures, 1)


def _passes(record):
  program = (
    f'{record["prompt"]}{record["canonical_solution"]}\n{record["test"]}\n'
    f'check({record["entry_point"]})\n'
  )
  command = [sys.executable, '-c', program]
  return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


if __name__ == '__main__':
  try:
    sys.exit(main())
  except errors.UserError as error:
    sys.exit(f'error: {error}')
