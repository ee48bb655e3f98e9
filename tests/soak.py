"""A stress test: an rl run of several processes under faults.

A random process is killed or gets SIGTERM, all get SIGTERM and SIGHUP several
times as when a machine shuts down, or all are killed and a bit of the newest
checkpoint is flipped, or one of the model that the run began with, with which
the command must be refused. TensorBoard's folder is a file in some attempts; in
others the disk becomes full, which root can try with a small file system. This
is repeated, while a supervisor restarts the same command. The files of the run
must equal those of an undisturbed run.

  python tests/soak.py --minutes 30
"""

import argparse
import collections
import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import toy_hosts  # noqa: E402
import toy_metrics  # noqa: E402

from r1jax import files  # noqa: E402

# All the state that a resume must restore: the position of dynamic sampling,
# the reference, the moments, the schedule, evaluations.
CHANGES = (
  'save_every=10',
  'keep=3',
  'eval.every=20',
  'micro_batch_size=8',
  'grpo.minibatches=2',
  'grpo.old_logprobs=trainer',
  'grpo.kl_coef=0.1',
  'grpo.ref_every=30',
  'grpo.dynamic_sampling_rounds=2',
  'optim.schedule=cosine',
  'optim.warmup=20',
  'optim.lr=3e-4',
  'log_samples=4',
)
FAULTS = (
  'kill',
  'kill',
  'terminate',
  'shut down',
  'flip',
  'swap',
  'board',
  'fill',
)
DISK = '200m'  # of the run's own file system


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--minutes', type=float, default=30)
  parser.add_argument(
    '--steps', type=int, default=0, help='steps; 0: measured from --minutes'
  )
  parser.add_argument('--hosts', type=int, default=4)
  parser.add_argument('--strategy', default='mesh', help='pmap or mesh')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--workdir', type=pathlib.Path, default=None)
  options = parser.parse_args()
  folder = options.workdir or pathlib.Path(tempfile.mkdtemp(prefix='soak-'))
  print(f'soak: {options.hosts} processes in {folder}')
  toy_hosts.run(1, toy_hosts.stage('sft', folder / 'base'), 300)
  steps = options.steps or measure_steps(options, folder)
  began, counts = time.time(), collections.Counter()
  arguments = stage(options, folder, 'disk/run', steps)
  run = folder / 'disk' / 'run'
  with small_disk(run.parent):
    supervise(options, run, arguments, random.Random(options.seed), counts)
    minutes = (time.time() - began) / 60
    began = time.time()
    arguments = stage(options, folder, 'undisturbed', steps)
    toy_hosts.run(options.hosts, arguments, 60 * 60)
    undisturbed_minutes = (time.time() - began) / 60
    differences = compare(run, folder / 'undisturbed')
  faults = ', '.join(f'{n} {fault}' for fault, n in sorted(counts.items()))
  print(
    f'soak: {steps} steps in {minutes:.1f} minutes with {faults}; undisturbed '
    f'{undisturbed_minutes:.1f} minutes; '
    + ('; '.join(differences) or 'parameters, metrics and samples are the same')
  )
  return 1 if differences else 0


@contextlib.contextmanager
def small_disk(folder):
  """Within this context the folder is a file system of its own, if this is
  root."""
  folder.mkdir()
  if os.geteuid() == 0:
    options = '-t', 'tmpfs', '-o', f'size={DISK}', 'tmpfs', folder
    subprocess.run(['mount', *options], check=False)  # containers forbid it
  try:
    yield
  finally:
    if folder.is_mount():
      subprocess.run(['umount', '-l', folder], check=True)


def stage(options, folder, name, steps):
  return toy_hosts.stage(
    'rl',
    folder / name,
    f'init={folder / "base" / "model"}',
    f'steps={steps}',
    f'parallel.strategy={options.strategy}',
    *CHANGES,
  )


def measure_steps(options, folder):
  """The steps of a disturbed run that lasts at least options.minutes: those of
  0.7 times as many minutes without faults."""
  seconds = []
  for steps in 2, 42:
    began = time.time()
    arguments = stage(options, folder, f'trial{steps}', steps)
    # The warm-up of the whole run is longer than a trial.
    arguments = [*arguments, '--config.optim.warmup=0']
    toy_hosts.run(options.hosts, arguments, 600)
    seconds.append(time.time() - began)
  first = seconds[0]
  each = max(0.02, (seconds[1] - first) / 40)
  steps = round(0.7 * options.minutes * 60 / each)
  print(f'soak: start {first:.0f} s, a step {each:.2f} s: {steps} steps')
  return max(20, steps // 20 * 20)


def supervise(options, run, arguments, generator, counts):
  """Restarts the processes until the stage is finished, with one fault in each
  attempt, all of FAULTS in a random order before any comes again."""
  faults = []
  while True:
    faults = faults or generator.sample(FAULTS, len(FAULTS))
    fault, done = faults.pop(), None
    if fault == 'fill' and not run.parent.is_mount():
      continue
    with contextlib.ExitStack() as stack:
      if fault == 'board':
        stack.enter_context(broken_board(run))
      processes = stack.enter_context(
        toy_hosts.running(options.hosts, arguments, R1JAX_HEARTBEAT='10')
      )
      wait = generator.uniform(5, 75)  # Some are killed while they start.
      try:
        codes = processes.wait(wait)
      except subprocess.TimeoutExpired:
        done = disturb(options, processes, run, fault, generator, counts)
        codes = processes.wait()
        filler(run).unlink(missing_ok=True)
        if fault == 'swap' and newest(run):
          refuse_swapped(options, run, arguments)
      if codes == [0] * options.hosts:
        return
      step = newest(run)
      print(f'soak: {done}; exit codes {codes}, newest step {step}', flush=True)
      # A host that gets SIGTERM while it starts, or loses another one, may end
      # with several codes. Without a fault, or with a user error, it must not.
      # A host that is killed while it ends leaves the model of a finished run.
      is_user_error = 2 in codes and fault != 'fill'
      has_ended = 0 in codes and not (run / 'model').exists()
      if not done or is_user_error or has_ended:
        outputs = [
          processes.output(host)[-3000:] for host in range(options.hosts)
        ]
        raise SystemExit('soak: unexpected end:\n' + '\n'.join(outputs))


def disturb(options, processes, run, fault, generator, counts):
  """Causes one fault; returns its description."""
  host = generator.randrange(options.hosts)
  if fault == 'terminate':
    counts['SIGTERMs'] += 1
    processes.kill(host, signal.SIGTERM)
    return f'SIGTERM to host {host}'
  if fault == 'shut down':
    counts['shutdowns'] += 1
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
      for each in processes.processes:
        with contextlib.suppress(ProcessLookupError):
          os.killpg(each.pid, number)
      time.sleep(0.2)
    return 'SIGTERM and SIGHUP to all processes, several times'
  if fault == 'kill':
    counts['kills'] += 1
    processes.kill(host)
    return f'kill -9 of host {host}'
  if fault == 'fill':
    counts['full disks'] += 1
    fill(filler(run))
    return 'the disk is full'
  if fault == 'board':
    counts['faults of TensorBoard'] += 1
    processes.kill(host)
    return f"a file in place of TensorBoard's folder, kill -9 of host {host}"
  if fault == 'swap':
    counts['swapped models'] += 1
    for each in range(options.hosts):
      processes.kill(each)
    return 'kill -9 of all, another model until it was refused'
  counts['flipped bits'] += 1
  for each in range(options.hosts):
    processes.kill(each)
  return f'kill -9 of all, {flip(run, generator)}'


def filler(run):
  return run.parent / 'filler'


def fill(path):
  """Writes a file that takes all space of the disk."""
  with open(path, 'wb', buffering=0) as file, contextlib.suppress(OSError):
    while True:
      file.write(bytes(1 << 16))


@contextlib.contextmanager
def broken_board(run):
  """Within this context a file is where TensorBoard's folder should be."""
  board, kept = run / 'tensorboard', run.parent / 'board'
  run.mkdir(exist_ok=True)
  if board.exists():
    board.rename(kept)
  board.write_text('')
  try:
    yield
  finally:
    board.unlink()
    if kept.exists():
      kept.rename(board)


def refuse_swapped(options, run, arguments):
  """Changes a bit of the base model, with which no process may go on."""
  path = run.parents[1] / 'base' / 'model' / 'model.safetensors'
  content = path.read_bytes()
  path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
  with toy_hosts.running(options.hosts, arguments) as processes:
    codes, output = processes.wait(), processes.output(0)
  path.write_bytes(content)
  if set(codes) != {2} or 'config.init' not in output:
    raise SystemExit(f'soak: a swapped model gave {codes}:\n{output[-3000:]}')


def newest(run):
  """The newest complete step on disk; None without any."""
  steps = [p.name for p in (run / 'checkpoints').glob('*') if p.name.isdigit()]
  return max(map(int, steps), default=None)


def flip(run, generator):
  """Flips a bit of the newest step if there are at least two."""
  steps = [p for p in (run / 'checkpoints').glob('*') if p.name.isdigit()]
  if len(steps) < 2:
    return 'no bit to flip yet'
  step = max(steps, key=lambda path: int(path.name))
  paths = [path for path in (step / 'state').rglob('*') if path.is_file()]
  path = max(paths, key=lambda path: path.stat().st_size)
  data = bytearray(path.read_bytes())
  n = generator.randrange(len(data))
  data[n] ^= 1 << generator.randrange(8)
  path.write_bytes(data)
  return f'a bit of step {step.name} flipped'


def compare(run, undisturbed):
  """Descriptions of the differences between two finished runs."""
  differences = []
  for name in ('metrics.jsonl', 'samples.jsonl'):
    ours, theirs = lines(run / name), lines(undisturbed / name)
    if ours != theirs:
      same = [a == b for a, b in zip(ours, theirs)]
      first = same.index(False) if False in same else len(same)
      differences.append(f'{name} differs from line {first + 1} on')
  names = {path.name for path in (undisturbed / 'model').iterdir()}
  if names != {path.name for path in (run / 'model').iterdir()}:
    differences.append('the models have other files')
  for name in sorted(names):
    a, b = run / 'model' / name, undisturbed / 'model' / name
    if not a.exists() or a.read_bytes() != b.read_bytes():
      differences.append(f'model/{name} differs')
  return differences


def lines(path):
  return list(map(toy_metrics.without_timings, files.read_jsonl(path)))


if __name__ == '__main__':
  sys.exit(main())
