"""Times the first token of a new process, with an empty and with a filled cache
of compiled programs: python -m experiments.benchmarks.first_token

The model has random weights and the sizes of Qwen2.5-0.5B. The time is that
from the start of Python to the end of generate() with one new token.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

from experiments.benchmarks import workload

FIRST_TOKEN = """
import sys
import r1jax
model = r1jax.load(sys.argv[1], dtype=sys.argv[2])
[[response]] = model.generate(['What is 2 + 3?'], max_new_tokens=1)
assert len(response.ids) == 1
"""


def run_process(arguments: list[str], cache: str) -> tuple[float, float]:
  """(seconds, seconds of all processors) of Python with these arguments."""
  began, cpu = time.perf_counter(), cpu_seconds()
  subprocess.run(
    [sys.executable, *arguments],
    env=os.environ | dict(R1JAX_CACHE=cache),
    check=True,
  )
  return time.perf_counter() - began, cpu_seconds() - cpu


def cpu_seconds() -> float:
  """Of the processes that this one started and that have ended."""
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  return used.ru_utime + used.ru_stime


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition(':')[0])
  parser.add_argument('--dtype', default='float32')
  parser.add_argument('--reps', type=int, default=3, help='pairs of processes')
  parser.add_argument('--quick', action='store_true', help='a small model')
  options = parser.parse_args()
  name = 'small' if options.quick else '0.5b'
  times: dict[str, list] = {'empty cache': [], 'filled cache': []}
  with tempfile.TemporaryDirectory() as model:
    make = ['-m', 'experiments.benchmarks.make_random', name, model]
    run_process(make, cache='')
    for _ in range(options.reps):
      with tempfile.TemporaryDirectory() as cache:
        for found in times.values():
          arguments = ['-c', FIRST_TOKEN, model, options.dtype]
          found.append(run_process(arguments, cache))
  peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
  for state, found in times.items():
    seconds, cpu = zip(*found)
    workload.report(
      'r1jax',
      'first_token',
      f'{name} {options.dtype} {state}',
      tokens=1,
      warmup=0,
      seconds=seconds,
      cpu_s=[round(x, 1) for x in cpu],
      peak_rss_gib=round(peak, 2),
    )


if __name__ == '__main__':
  main()
