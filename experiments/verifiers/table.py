"""How often the verifier of mathematics errs, by kind of answer, beside
math-verify's errors on the same cases.

`python -m experiments.verifiers.table [--math-verify PYTHON] [--gsm8k FILE …]`

There are two tables, `cases.cases()` and `cases.blind()`. PYTHON is an
interpreter that has math-verify; each of its cases is bounded by ten seconds and
2 GiB, and is no where it ends so. With FILE every solution of GSM8K is judged
against its own gold and against the gold of the next problem whose gold differs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time

from experiments.verifiers import cases
from r1jax.data import record_files
from r1jax.rewards import verifiers

PEER = r"""
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from math_verify import parse, verify
for line in sys.stdin:
  text, gold = json.loads(line)
  try:
    if r'\boxed' not in gold and not re.search(r'(?<!\\)\$', gold):
      gold = f'${gold}$'
    said = bool(verify(parse(gold), parse(text)))
  except Exception as error:
    said = False
  print(json.dumps(said), flush=True)
"""
PATIENCE = 10.0  # seconds for a case of the peer's


def ours(table):
  """(what we say of each case, the seconds that each took)."""
  said, seconds = [], []
  with verifiers.open_verifiers(verifiers.VerifyConfig()) as judges:
    for n, (_, text, gold, _) in enumerate(table):
      began = time.perf_counter()
      record = dict(id=str(n), prompt='?', answer=gold)
      (verdict,) = judges.verdicts([record], [text])
      said.append(verdict.value == 1)
      seconds.append(time.perf_counter() - began)
  return said, seconds


def theirs(python, table):
  """(what math-verify says, seconds); a case that takes too long is no."""
  said, seconds, peer = [], [], None
  for _, text, gold, _ in table:
    peer = peer or subprocess.Popen(
      [python, '-c', PEER],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
      bufsize=1,
    )
    began = time.perf_counter()
    killer = threading.Timer(PATIENCE, peer.kill)
    killer.start()
    peer.stdin.write(json.dumps([text, gold]) + '\n')
    answer = peer.stdout.readline()
    killer.cancel()
    seconds.append(time.perf_counter() - began)
    said.append(answer == 'true\n')
    if not answer:
      peer.kill()
      peer.wait()
      peer = None
  if peer:
    peer.kill()
    peer.wait()
  return said, seconds


def rows(table, said):
  """{kind: (cases, false accepts, equal ones, false rejects)}."""
  found = {}
  for (kind, _, _, is_equal), yes in zip(table, said, strict=True):
    n, accepts, equal, rejects = found.get(kind, (0, 0, 0, 0))
    found[kind] = (
      n + 1,
      accepts + (yes and not is_equal),
      equal + is_equal,
      rejects + (is_equal and not yes),
    )
  found['all'] = tuple(map(sum, zip(*found.values())))
  return found


def markdown(table, columns):
  """The rates, a line a kind."""
  heads = [
    head
    for name, _, _ in columns
    for head in (f'{name}: false accepts', 'false rejects')
  ]
  lines = ['| kind | cases | ' + ' | '.join(heads) + ' |']
  lines.append('|' + '---|' * (2 + len(heads)))
  counted = [rows(table, said) for _, said, _ in columns]
  for kind in counted[0]:
    cells = []
    for rates in counted:
      n, accepts, equal, rejects = rates[kind]
      cells += [_rate(accepts, n - equal), _rate(rejects, equal)]
    lines.append(f'| {kind} | {counted[0][kind][0]} | {" | ".join(cells)} |')
  for name, _, seconds in columns:
    lines.append(
      f'\n{name}: median {statistics.median(seconds) * 1e3:.2f} ms a case, '
      f'slowest {max(seconds):.2f} s'
    )
  return '\n'.join(lines)


def _rate(wrong, n):
  return f'{wrong} of {n}' if n else '–'


def gsm8k(path):
  """(right ones that are judged equal, wrong ones that are), of how many."""
  records = record_files.read(path)
  others = [
    next(
      x['answer']
      for x in records[n + 1 :] + records
      if x['answer'] != record['answer']
    )
    for n, record in enumerate(records)
  ]
  with verifiers.open_verifiers(verifiers.VerifyConfig()) as judges:

    def answer(golds):
      return [cases.response(x) for x in golds]

    own = judges.accuracy(records, answer(x['answer'] for x in records)).sum()
    other = judges.accuracy(records, answer(others)).sum()
  return int(own), int(other), len(records)


def main(arguments):
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--math-verify', metavar='PYTHON')
  parser.add_argument('--gsm8k', metavar='FILE', nargs='*', default=[])
  options = parser.parse_args(arguments)
  for name, table in (('cases', cases.cases()), ('blind', cases.blind())):
    columns = [('r1jax', *ours(table))]
    if options.math_verify:
      columns.append(('math-verify', *theirs(options.math_verify, table)))
    print(f'## {name}\n\n{markdown(table, columns)}\n\nwhere r1jax errs:')
    for (kind, text, gold, is_equal), yes in zip(table, columns[0][1]):
      if yes != is_equal:
        word = 'accepts' if yes else 'rejects'
        print(f'- {kind}: {word} {text[-90:]!r} for {gold!r}')
    print(flush=True)
  for path in options.gsm8k:
    own, other, count = gsm8k(path)
    print(
      f'\n{path}: {own} of {count} golds equal their own, {other} of {count} '
      "equal the next problem's that differs"
    )


if __name__ == '__main__':
  main(sys.argv[1:])
