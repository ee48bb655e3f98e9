"""Measures the error rates of the math verifier by kind of answer, and those of
math-verify on the same cases.

`python -m experiments.verifiers.table [--math-verify PYTHON] [--gsm8k FILE …]`

There are two tables, `cases.cases()` and `cases.blind()`. PYTHON is an
interpreter with math-verify. Each of its cases is limited to ten seconds and
2 GiB; one that exceeds a limit counts as rejected. With FILE, a GSM8K file,
every gold is compared with itself and with the next gold that differs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from experiments.verifiers import cases
from experiments.verifiers.cases import Case
from r1jax.data import record_files
from r1jax.rewards import verifiers

MATH_VERIFY = r"""
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from math_verify import parse, verify
for line in sys.stdin:
  text, gold = json.loads(line)
  try:
    if r'\boxed' not in gold and not re.search(r'(?<!\\)\$', gold):
      gold = f'${gold}$'
    accepted = bool(verify(parse(gold), parse(text)))
  except Exception as error:
    accepted = False
  print(json.dumps(accepted), flush=True)
"""
TIMEOUT = 10.0  # seconds for a case of math-verify


def run_r1jax(
  table: Sequence[Case], seconds: float = 2.0, final_form: bool = True
) -> tuple[list[bool], list[float]]:
  """(whether each case is accepted in so many CPU seconds, wall seconds of
  each)."""
  accepted, taken = [], []
  config = verifiers.VerifyConfig(seconds=seconds, final_form=final_form)
  with verifiers.Verifiers(config) as verifier:
    for n, case in enumerate(table):
      began = time.perf_counter()
      record = dict(id=str(n), prompt='?', answer=case.gold)
      (verdict,) = verifier.verdicts([record], [case.response])
      accepted.append(verdict.value == 1)
      taken.append(time.perf_counter() - began)
  return accepted, taken


def run_math_verify(
  python: str, table: Sequence[Case]
) -> tuple[list[bool], list[float]]:
  """(whether each case is accepted, seconds of each)."""
  accepted, seconds, process = [], [], None
  for case in table:
    process = process or _start_math_verify(python)
    began = time.perf_counter()
    timer = threading.Timer(TIMEOUT, process.kill)
    timer.start()
    process.stdin.write(json.dumps([case.response, case.gold]) + '\n')
    line = process.stdout.readline()
    timer.cancel()
    seconds.append(time.perf_counter() - began)
    accepted.append(line == 'true\n')
    if not line:
      _end(process)
      process = None
  if process:
    _end(process)
  return accepted, seconds


def count_errors(
  table: Sequence[Case], accepted: Sequence[bool]
) -> dict[str, tuple[int, ...]]:
  """{kind: (cases, false accepts, equal cases, false rejects)}."""
  counts: dict[str, tuple[int, ...]] = {}
  for case, is_accepted in zip(table, accepted, strict=True):
    count, accepts, equal, rejects = counts.get(case.kind, (0, 0, 0, 0))
    counts[case.kind] = (
      count + 1,
      accepts + (is_accepted and not case.is_equal),
      equal + case.is_equal,
      rejects + (case.is_equal and not is_accepted),
    )
  counts['all'] = tuple(map(sum, zip(*counts.values())))
  return counts


def markdown(
  table: Sequence[Case], columns: Sequence[tuple[str, list[bool], list[float]]]
) -> str:
  """The error rates as a table with a row for each kind."""
  heads = ['kind', 'cases']
  for name, _, _ in columns:
    heads += [f'{name}: false accepts', 'false rejects']
  lines = [f'| {" | ".join(heads)} |', '|' + '---|' * len(heads)]
  counts = [count_errors(table, accepted) for _, accepted, _ in columns]
  for kind in counts[0]:
    cells = [kind, str(counts[0][kind][0])]
    for column in counts:
      count, accepts, equal, rejects = column[kind]
      cells += [_rate(accepts, count - equal), _rate(rejects, equal)]
    lines.append(f'| {" | ".join(cells)} |')
  for name, _, seconds in columns:
    lines.append(
      f'\n{name}: median {statistics.median(seconds) * 1e3:.2f} ms a case, '
      f'slowest {max(seconds):.2f} s'
    )
  return '\n'.join(lines)


def gsm8k(path: str) -> tuple[int, int, int]:
  """(golds that equal themselves, golds that equal the next gold that differs,
  number of golds)."""
  records = record_files.read(path)
  golds = [record['answer'] for record in records]
  others = []
  for n, gold in enumerate(golds):
    others.append(next(x for x in golds[n + 1 :] + golds if x != gold))
  with verifiers.Verifiers(verifiers.VerifyConfig()) as verifier:
    own = verifier.accuracy(records, list(map(cases.response, golds)))
    other = verifier.accuracy(records, list(map(cases.response, others)))
  return int(own.sum()), int(other.sum()), len(records)


def main(arguments: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--math-verify', metavar='PYTHON')
  parser.add_argument('--gsm8k', metavar='FILE', nargs='*', default=[])
  options = parser.parse_args(arguments)
  for name, table in (('cases', cases.cases()), ('blind', cases.blind())):
    columns = [('r1jax', *run_r1jax(table))]
    if options.math_verify:
      columns.append(
        ('math-verify', *run_math_verify(options.math_verify, table))
      )
    print(f'## {name}\n\n{markdown(table, columns)}\n\nerrors of r1jax:')
    for case, is_accepted in zip(table, columns[0][1]):
      if is_accepted != case.is_equal:
        verb = 'accepts' if is_accepted else 'rejects'
        text = case.response[-90:]
        print(f'- {case.kind}: {verb} {text!r} for {case.gold!r}')
    print(flush=True)
  for path in options.gsm8k:
    own, other, count = gsm8k(path)
    print(
      f'\n{path}: {own} of {count} golds equal themselves, {other} of {count} '
      'equal the next gold that differs'
    )


def _start_math_verify(python):
  return subprocess.Popen(
    [python, '-c', MATH_VERIFY],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
    bufsize=1,
  )


def _end(process):
  process.kill()
  process.wait()


def _rate(wrong, count):
  return f'{wrong} of {count}' if count else '–'


if __name__ == '__main__':
  main(sys.argv[1:])
