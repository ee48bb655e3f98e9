"""Runs the programs of gpu.sh in turn, each within its limit, and writes
results.json and table.md: python -m experiments.benchmarks.gpu OUT"""

import argparse
import dataclasses
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import time

import jax

from experiments import base
from r1jax import config as configs
from r1jax.preflight import arithmetic, chips, shapes
from r1jax.preflight import plan as plans
from r1jax.rl import rl_config

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = '1.5b', 'smollm2-135m'
# Rollouts of 64 rows; updates on rows of 2,048 tokens.
SHORT = dict(prompts=8, group_size=8, prompt_len=128, max_new_tokens=512)
LONG = dict(prompts=2, group_size=8, prompt_len=64, max_new_tokens=1984)
SIZES = dict(rollout=SHORT, step=SHORT, update=LONG)
MICRO_BATCH_SIZE = 4
# What needs one device and no other process.
TESTS = (
  *('tests/models', 'tests/sampling', 'tests/rl', 'tests/training'),
  'tests/test_losses.py',
)
TEST_OPTIONS = (
  '-n 8 -q -p no:cacheprovider --deselect tests/training/test_layouts.py'
)


@dataclasses.dataclass(frozen=True)
class Step:
  """A program, and the seconds after which it is ended."""

  name: str
  command: str  # after python3
  limit: float
  env: dict[str, str] = dataclasses.field(default_factory=dict)


def flags(sizes: dict[str, int]) -> str:
  return ' '.join(
    f'--{name.replace("_", "-")} {value}' for name, value in sizes.items()
  )


def steps(models: pathlib.Path) -> list[Step]:
  """The programs, the most important first."""
  module = '-m experiments.benchmarks'
  found = [Step('kernels', f'{module}.gpu_kernels', 90)]
  for name in MODELS:
    path = models / name
    found.append(
      Step(f'make {name}', f'{module}.make_random {name} {path}', 60)
    )
    common = f'--model {path} --dtype bfloat16 --reps 2'
    common += f' --micro-batch-size {MICRO_BATCH_SIZE}'
    for workload in ('rollout', 'update', 'step'):
      options = f'{workload} {common} --scan {flags(SIZES[workload])}'
      found.append(Step(f'{workload} {name}', f'{module}.ours {options}', 100))
    trl = f'{module}.peers_trl step {common} {flags(SHORT)}'
    found.append(Step(f'trl {name}', trl, 120))
  env = dict(
    JAX_PLATFORMS='cuda,cpu',
    JAX_DEFAULT_MATMUL_PRECISION='highest',
    XLA_PYTHON_CLIENT_MEM_FRACTION='0.08',
  )
  tests = f'-m pytest {TEST_OPTIONS} {" ".join(TESTS)}'
  return [*found, Step('tests', tests, 150, env)]


def run(step: Step, seconds: float, out: pathlib.Path) -> dict:
  """Runs a program for at most `seconds`: how it ended, and the lines of JSON
  that it printed."""
  began, log = time.monotonic(), out / f'{step.name.replace(" ", "_")}.log'
  command = [sys.executable, *shlex.split(step.command)]
  with log.open('w') as file:
    try:
      code = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | step.env,
        stdout=file,
        stderr=subprocess.STDOUT,
        timeout=seconds,
      ).returncode
    except subprocess.TimeoutExpired:
      code = None
  taken = round(time.monotonic() - began, 1)
  text = log.read_text(errors='replace').splitlines()
  print(f'{step.name}: exit code {code}, {taken} s', flush=True)
  print(*text[-4 if code == 0 else -30 :], sep='\n', flush=True)
  lines = [json.loads(line) for line in text if line.startswith('{"')]
  return dict(name=step.name, code=code, seconds=taken, lines=lines)


def predict(model: pathlib.Path, workload: str, chip: str) -> dict[str, float]:
  """Preflight's formulas for a workload: GiB at the peak, seconds at the roof
  of the chip, and FLOPs."""
  sizes, settings = SIZES[workload], base.get_config('rl')
  settings.init = str(model)
  settings.compute.dtype = 'bfloat16'
  settings.micro_batch_size = MICRO_BATCH_SIZE
  settings.grpo.prompts_per_step = sizes['prompts']
  settings.grpo.group_size = sizes['group_size']
  settings.grpo.old_logprobs = 'trainer'
  settings.grpo.kl_coef = 0.04
  settings.prompt.max_len = sizes['prompt_len']
  settings.sample.max_new_tokens = sizes['max_new_tokens']
  settings.eval.every = 0
  config = configs.build(rl_config.Config, settings)
  pod = chips.pod(f'{chip}:1')
  cfg = shapes.computed(config.init, config.compute, pod.chip)
  plan = plans.make(config, cfg, pod)
  learning = {'train', 'apply', 'score'}
  calls, found = plan.calls(), dict(gib=0.0, seconds=0.0, flops=0.0)
  for cost in arithmetic.costs(plan):
    is_part = workload == 'step' or (
      (cost.name in learning) == (workload == 'update')
    )
    if is_part:
      found['gib'] = max(found['gib'], cost.need / chips.GIB)
      found['seconds'] += calls[cost.name] * cost.bound(pod.chip)[1]
      found['flops'] += calls[cost.name] * cost.flops
  return found


def row(line: dict, name: str, predicted: dict | None, chip: str) -> str:
  """A row of the table; predicted is that of r1jax's programs."""
  median = statistics.median(line['seconds'])
  cells = [name, line['program'], line['workload'], f'{median:.3g}']
  cells += [f'{line["tokens_per_s"]:.0f}', f'{line["peak_device_gib"]:.1f}']
  if predicted:
    rate = chips.CHIPS[chip].flop_rate
    cells += [f'{predicted["gib"]:.1f}', f'{predicted["seconds"]:.3g}']
    cells += [f'{predicted["seconds"] / median:.2f}']
    cells += [f'{predicted["flops"] / median / rate:.2f}']
  return f'| {" | ".join(cells)} |'


def table(results: list[dict], models: pathlib.Path, chip: str) -> str:
  head = ['model', 'program', 'workload', 's', 'tokens/s', 'peak GiB']
  head += ['predicted GiB', 'roof s', 'share of the roof', 'FLOPs / peak']
  lines = [f'| {" | ".join(head)} |', '|' + '---|' * len(head)]
  for result in results:
    name = result['name'].split()[-1]
    for line in result['lines']:
      if 'workload' in line:
        is_own = line['program'] == 'r1jax' and chip in chips.CHIPS
        predicted = None
        if is_own:
          predicted = predict(models / name, line['workload'], chip)
        lines.append(row(line, name, predicted, chip))
  return '\n'.join(lines) + '\n'


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition(':')[0])
  parser.add_argument('out', type=pathlib.Path)
  parser.add_argument('--seconds', type=float, default=590, help='for all')
  parser.add_argument('--only', default='', help='steps with this in the name')
  parser.add_argument('--models', type=pathlib.Path, default='/tmp/gpu_models')
  options = parser.parse_args()
  jax.config.update('jax_platforms', 'cpu')  # of this process
  options.out.mkdir(parents=True, exist_ok=True)
  options.models.mkdir(parents=True, exist_ok=True)
  query = [
    'nvidia-smi',
    '--query-gpu=name,memory.total',
    '--format=csv,noheader',
  ]
  card = subprocess.run(query, capture_output=True, text=True).stdout.strip()
  print(card, jax.__version__, flush=True)
  chip = next((x for x in ('h100', 'h200') if x.upper() in card), '')
  ends, results = time.monotonic() + options.seconds, []
  for step in steps(options.models):
    left = ends - time.monotonic()
    if options.only in step.name and left > 10:
      results.append(run(step, min(step.limit, left), options.out))
      text = json.dumps(dict(card=card, jax=jax.__version__, results=results))
      (options.out / 'results.json').write_text(text)
  text = table(results, options.models, chip)
  (options.out / 'table.md').write_text(
    f'{card}, jax {jax.__version__}\n\n{text}'
  )
  print(text)


if __name__ == '__main__':
  main()
