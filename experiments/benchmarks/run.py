"""Runs ours and the peers' programs in turn on this machine and prints one
table: python experiments/benchmarks/run.py --model DIR --peers-python PATH"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Side:
  """A program with its arguments, and which of its results is meant."""

  command: str
  workload: str
  mark: str = ''  # in the result's variant


@dataclasses.dataclass(frozen=True)
class Case:
  name: str
  ours: Side
  peer: Side
  must: float
  aim: float


def case(name, model, workload, dtype, peer, must, aim, peer_runs=None):
  """Ours against a peer at one workload, both on the same model."""
  tail = f'--model {model} --dtype {dtype}'
  return Case(
    f'{name} {dtype}',
    Side(f'ours {workload} {tail}', workload),
    Side(f'{peer} {peer_runs or workload} {tail}', workload),
    must,
    aim,
  )


TAIL = 'ours heavy_tail --model TINY'
TORCH, TRL = 'peers_torch', 'peers_trl'
CASES = (
  case('W1', 'MODEL', 'rollout', 'bfloat16', TORCH, 1.5, 1.5),
  case('W1', 'MODEL', 'rollout', 'float32', TORCH, 1.2, 1.5),
  case('W2', 'MODEL', 'update', 'bfloat16', TORCH, 0.5, 0.75),
  case('W2', 'MODEL', 'update', 'float32', TORCH, None, None),
  case('W2', 'MODEL', 'update', 'float32', TRL, 1.1, 1.3, 'step'),
  case('W3', 'MODEL', 'step', 'float32', TRL, None, None),
  case('T-W1', 'TINY', 'rollout', 'float32', TORCH, None, None),
  case('T-W2', 'TINY', 'update', 'float32', TORCH, None, None),
  case('T-W3', 'TINY', 'step', 'float32', TRL, 1.0, 1.5),
  Case(
    'heavy tail float32',
    Side(TAIL, 'heavy_tail', 'refilled'),
    Side(TAIL, 'heavy_tail', 'lock-step'),
    2.0,
    3.0,
  ),
)


def run(command, options, tiny):
  """The results that one program prints."""
  program, *rest = command.split()
  rest = [{'MODEL': options.model, 'TINY': tiny}.get(x, x) for x in rest]
  mine = program in ('ours', 'make_tiny')
  python = sys.executable if mine else options.peers_python
  if program != 'make_tiny':
    rest += ['--reps', str(options.reps)]
    rest += ['--quick'] if options.quick else []
  done = subprocess.run(
    [python, '-m', f'experiments.benchmarks.{program}', *rest],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  if done.returncode:
    sys.exit(f'{command} failed:\n{done.stderr}')
  lines = [x for x in done.stdout.splitlines() if x.startswith('{"who"')]
  print(*lines, sep='\n', file=sys.stderr, flush=True)
  return [json.loads(x) for x in lines]


def pick(side, results):
  """One side's result with the seconds of all rounds put together."""
  found = [
    x
    for x in results[side.command]
    if x['workload'] == side.workload and side.mark in x['variant']
  ]
  return found[0] | dict(
    median=statistics.median(s for x in found for s in x['seconds']),
    peak_rss_gib=max(x['peak_rss_gib'] for x in found),
  )


def row(case, results):
  """A line of the table."""
  ours, peer = pick(case.ours, results), pick(case.peer, results)
  cells = [case.name]
  for side in (ours, peer):
    who = f'{side["who"]}, {side["variant"]}'
    if 'occupancy' in side:
      who += f', occupancy {side["occupancy"]:.2f}'
    cells += [
      who,
      f'{side["median"]:.3g}',
      f'{side["tokens"] / side["median"]:.0f}',
      f'{side["peak_rss_gib"]:.2f}',
    ]
  cells += [f'{peer["median"] / ours["median"]:.2f}']
  cells += [f'{x}' if x else '' for x in (case.must, case.aim)]
  return f'| {" | ".join(cells)} |'


def processor():
  """What the machine calls its processor."""
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  names = [x.partition(':')[2].strip() for x in lines if 'model name' in x]
  return names[0] if names else platform.processor()


def parse():
  parser = argparse.ArgumentParser(description=__doc__.partition(':')[0])
  parser.add_argument('--model', required=True, help='the real model: a folder')
  parser.add_argument('--peers-python', required=True)
  parser.add_argument('--only', default='', help='cases with this in the name')
  parser.add_argument('--rounds', type=int, default=2, help='turns of each')
  parser.add_argument('--reps', type=int, default=3, help='timed runs a turn')
  parser.add_argument('--quick', action='store_true', help='tiny sizes')
  return parser.parse_args()


def main():
  options = parse()
  if options.quick:
    options.rounds = options.reps = 1
  options.model = str(pathlib.Path(options.model).resolve())
  cases = [c for c in CASES if options.only in c.name]
  # A program that two cases need runs once a round.
  commands = dict.fromkeys(
    side.command for c in cases for side in (c.ours, c.peer)
  )
  results = {command: [] for command in commands}
  print(
    f'{processor()}, {os.cpu_count()} cores; load before the first run '
    f'{os.getloadavg()[0]:.1f}; {options.rounds} rounds of {options.reps} '
    'runs; ratio: how many times as fast as the peer\n'
  )
  with tempfile.TemporaryDirectory() as tiny:
    run(f'make_tiny {tiny}', options, tiny)
    for _ in range(options.rounds):
      for command in commands:
        results[command] += run(command, options, tiny)
  side = ['', 's', 'tokens/s', 'GiB']
  head = ['workload', *side, 'peer', *side[1:], 'ratio', 'must', 'aim']
  print(f'| {" | ".join(head)} |\n|{"---|" * len(head)}')
  print(*(row(c, results) for c in cases), sep='\n')


if __name__ == '__main__':
  main()
