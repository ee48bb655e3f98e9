"""HumanEval judged in the sandbox: every canonical solution must pass, every
stub must fail; and how many a second, beside a plain subprocess for each.

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
from concurrent.futures import ThreadPoolExecutor

from r1jax import errors
from r1jax.rewards.code import unit_tests
from r1jax.sandbox import tiers, workers

STUBS = {
  'pass': lambda record: '    pass\n',
  'return None': lambda record: '    return None\n',
  'no function': lambda record: f'{record["entry_point"]}_ = 1\n',
}
LIMITS = dict(seconds=4.0, memory=1 << 30)
SUITE, WORKER = 60.0, 1 << 30  # CPU seconds and bytes of a process that judges


def read(path):
  """The records of HumanEval.jsonl, or of its .gz."""
  text = path.read_bytes()
  text = gzip.decompress(text) if path.suffix == '.gz' else text
  records = [json.loads(line) for line in text.decode().splitlines()]
  records = [record | dict(id=record['task_id']) for record in records]
  for record in records:
    unit_tests.check_tests(record)
  return records


def judged(pool, tier, records, codes):
  """([value, kind, reason] of each, seconds that it took)."""
  began = time.perf_counter()
  answers = pool.map(
    'r1jax.rewards.code.unit_tests:judged',
    [
      [unit_tests.tests_of(record), code, tier, LIMITS, False]
      for record, code in zip(records, codes, strict=True)
    ],
  )
  seconds = time.perf_counter() - began
  return [x.value or [None, 'infra', x.failure] for x in answers], seconds


def plain(count, records):
  """(how many pass, seconds) of the same programs in bare subprocesses. These
  are the data set's own solutions: a model's are never run so."""

  def passes(record):
    program = (
      f'{record["prompt"]}{record["canonical_solution"]}\n{record["test"]}\n'
      f'check({record["entry_point"]})\n'
    )
    command = [sys.executable, '-c', program]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0

  began = time.perf_counter()
  with ThreadPoolExecutor(count) as threads:
    passed = sum(threads.map(passes, records))
  return passed, time.perf_counter() - began


def main(argv=None):
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('path', type=pathlib.Path)
  parser.add_argument('--tier', help='bwrap or landlock; each that is had')
  parser.add_argument('--workers', type=int, default=os.cpu_count())
  args = parser.parse_args(argv)
  records = read(args.path)
  solutions = [record['canonical_solution'] for record in records]
  passed, seconds = plain(args.workers, records)
  print(
    f'plain subprocesses: {passed} of {len(records)} pass, '
    f'{len(records) / seconds:.1f} a second'
  )
  failures = 0
  for name, tier, reason in tiers.tiers():
    if args.tier in (None, name) and tier is None:
      print(f'{name}: not had: {reason}')
    if args.tier not in (None, name) or tier is None:
      continue
    with workers.Pool(args.workers, SUITE, WORKER) as pool:
      judged(pool, tier, records[:8], solutions[:8])  # starts the workers
      verdicts, seconds = judged(pool, tier, records, solutions)
      wrong = [
        (record['id'], verdict)
        for record, verdict in zip(records, verdicts)
        if verdict[0] != 1
      ]
      print(
        f'{name}: {len(records) - len(wrong)} of {len(records)} canonical '
        f'solutions pass, {len(records) / seconds:.1f} a second'
      )
      for record_id, verdict in wrong:
        print(f'  {record_id} does not pass: {verdict}')
      failures += len(wrong)
      for stub, code in STUBS.items():
        codes = [code(record) for record in records]
        verdicts, _ = judged(pool, tier, records, codes)
        failed = sum(value == 0 for value, *_ in verdicts)
        print(f'  {failed} of {len(records)} stubs fail ({stub})')
        failures += len(records) - failed
  return min(failures, 1)


if __name__ == '__main__':
  try:
    sys.exit(main())
  except errors.UserError as error:
    sys.exit(f'error: {error}')
