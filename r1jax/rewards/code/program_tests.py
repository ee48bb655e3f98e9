"""Tests of programs that read standard input and write standard output."""

import dataclasses
from collections.abc import Iterator

from r1jax.rewards.code import cases, comparison
from r1jax.rewards.code.suite import Suite
from r1jax.rewards.verdict import Record, Verdict, quote
from r1jax.sandbox import tiers

# The names by which a checker gets its files, in the order of its arguments.
FILES = 'input.txt', 'correct_output.txt', 'solution_output.txt'
CHECKER_SECONDS = 30.0  # of CPU time
CHECKER_MEMORY = 1 << 30


def verdicts(record: Record, code: str, suite: Suite) -> Iterator[Verdict]:
  """The verdicts on the tests, until the program does not compile."""
  parts = [part for part in (record.get('prefix'), code) if part]
  given = cases.given(record)
  for test in record['tests']:
    limits = suite.limits()
    max_output = max(limits.output, 2 * len(test['output'].encode()))
    limits = dataclasses.replace(limits, output=max_output)
    kind, stdout, detail = tiers.run(
      suite.tier, parts, test['input'], limits, given, suite.spent
    )
    if kind != 'passed':
      yield suite.ended(kind, detail)
      if kind == 'compile':
        return
    else:
      yield _compared(record, test, stdout, suite)


def _compared(record, test, stdout, suite):
  """The Verdict on the output of a program that ended well."""
  if 'checker' in record:
    return _checked(record, test, stdout, suite)
  printed, wanted = stdout.decode('utf-8', 'surrogateescape'), test['output']
  tolerance = record.get('tolerance', 0.0)
  ignore_case = record.get('ignore_case', False)
  if comparison.same_output(printed, wanted, tolerance, ignore_case):
    return Verdict(1.0, 'passed', '')
  return Verdict(0.0, 'wrong', _difference(test, stdout))


def _checked(record, test, stdout, suite):
  """The Verdict of the record's checker, which runs in a sandbox of its own:
  right if it ends well and prints 1 and nothing else. What
  makes it fail is not right."""
  output = stdout.decode('utf-8', 'replace')
  texts = test['input'], test['output'], output
  limits = dataclasses.replace(
    suite.limits(),
    seconds=CHECKER_SECONDS,
    wall=0.0,
    memory=CHECKER_MEMORY,
    output=1 << 20,
  )
  given = dict(files=dict(zip(FILES, texts, strict=True)))
  kind, printed, detail = tiers.run(
    suite.tier, [record['checker']], '', limits, given
  )
  if kind == 'infra':
    return suite.ended(kind, detail)
  if kind != 'passed':
    reason = f'the checker ended with {kind} ({detail[-100:]})'
    return Verdict(0.0, 'wrong', f'{reason}; {_difference(test, stdout)}')
  if _score(printed) == 1:
    return Verdict(1.0, 'passed', '')
  return Verdict(0.0, 'wrong', f'the checker: {_difference(test, stdout)}')


def _score(printed):
  """The printed number; 0 if anything else is printed, as the output may be."""
  try:
    return float(printed.decode('ascii'))
  except ValueError:
    return 0.0


def _difference(test, stdout):
  printed, stdin = stdout.decode(errors='replace'), quote(test['input'])
  wanted = f'{stdin}, expected {quote(test["output"])}'
  return f'printed {quote(printed)} for {wanted}'
