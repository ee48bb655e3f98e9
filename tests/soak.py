"""An rl run of several processes under faults: a random one is killed, told to
end, or finds a bit of the newest checkpoint flipped, again and again, while a
supervisor starts the same command anew. At the end nothing must show.

  python tests/soak.py --minutes 30
"""

import argparse
import collections
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

from r1jax import files
from r1jax.training import metrics  # noqa: E402

# What a run must carry over: the cursor of dynamic sampling, a reference of its
# own, the moments, the schedule, evaluations that are skipped.
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
FAULTS = 'kill', 'kill', 'tell', 'tell', 'flip'


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--minutes', type=float, default=30)
  parser.add_argument(
    '--steps', type=int, default=0, help='instead of minutes; 0: measured'
  )
  parser.add_argument('--hosts', type=int, default=4)
  parser.add_argument('--kind', default='mesh', help='pmap or mesh')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--workdir', type=pathlib.Path, default=None)
  c = parser.parse_args()
  folder = c.workdir or pathlib.Path(tempfile.mkdtemp(prefix='soak-'))
  print(f'soak: {c.minutes:g} minutes of {c.hosts} processes in {folder}')
  toy_hosts.run(1, toy_hosts.stage('sft', folder / 'base'), 300)
  steps = c.steps or steps_of(c, folder)

  def arguments(name):
    return stage(c, folder, name, steps)

  began, counts = time.time(), collections.Counter()
  supervise(c, folder / 'run', arguments('run'), random.Random(c.seed), counts)
  ran = time.time() - began
  toy_hosts.run(c.hosts, arguments('whole'), 60 * 60)
  whole = time.time() - began - ran
  faults = compare(folder / 'run', folder / 'whole')
  told = ', '.join(f'{n} {what}' for what, n in sorted(counts.items()))
  print(
    f'soak: {steps} steps in {ran / 60:.1f} minutes with {told}; undisturbed '
    f'{whole / 60:.1f} minutes; '
    + ('; '.join(faults) or 'parameters, metrics and samples are the same')
  )
  return 1 if faults else 0


def stage(c, folder, name, steps):
  return toy_hosts.stage(
    'rl',
    folder / name,
    f'init={folder / "base" / "model"}',
    f'steps={steps}',
    f'parallel.strategy={c.kind}',
    *CHANGES,
  )


def steps_of(c, folder):
  """The steps of a run that lasts at least so many minutes when it is disturbed:
  as many as an undisturbed one makes in 0.7 of them (0.6 came close)."""
  began = time.time()
  toy_hosts.run(c.hosts, stage(c, folder, 'trial', 2), 600)
  first = time.time() - began
  began = time.time()
  toy_hosts.run(c.hosts, stage(c, folder, 'trial2', 42), 600)
  each = max(0.02, (time.time() - began - first) / 40)
  steps = round(0.7 * c.minutes * 60 / each)
  print(f'soak: start {first:.0f} s, a step {each:.2f} s: {steps} steps')
  return max(20, steps // 20 * 20)


def supervise(c, run, arguments, chance, counts):
  """Starts the processes until the stage is done, and disturbs each start of
  them once."""
  while True:
    with toy_hosts.running(c.hosts, arguments) as many:
      fault, ended = chance.choice(FAULTS), None
      wait = chance.uniform(5, 75)  # Some die while they start.
      try:
        codes = many.wait(wait)
      except subprocess.TimeoutExpired:
        ended = disturb(c, many, run, fault, chance, counts)
        codes = many.wait(120)
      if codes == [0] * c.hosts:
        return
      step = newest(run)
      print(
        f'soak: {ended}; exit codes {codes}, newest step {step}', flush=True
      )
      # A host that was told while it started, or met a dead one, ends in
      # other ways; what nobody did, and a user's error, must not be.
      if not ended or 2 in codes or 0 in codes:
        said = '\n'.join(many.said(host)[-3000:] for host in range(c.hosts))
        raise SystemExit(f'soak: this was not expected:\n{said}')


def disturb(c, many, run, fault, chance, counts):
  """Does one fault to the processes; what it was, in words."""
  host = chance.randrange(c.hosts)
  counts[dict(kill='kills', tell='SIGTERMs', flip='flipped bits')[fault]] += 1
  if fault == 'tell':
    many.kill(host, signal.SIGTERM)
    return f'SIGTERM to host {host}'
  many.kill(host)
  what = f'kill -9 of host {host}'
  if fault == 'flip':
    for each in range(c.hosts):
      many.kill(each)
    what = f'kill -9 of all, {flip(run, chance)}'
  return what


def newest(run):
  """The newest whole step on disk."""
  steps = [p.name for p in (run / 'checkpoints').glob('*') if p.name.isdigit()]
  return max(map(int, steps), default=None)


def flip(run, chance):
  """Flips a bit of the newest of at least two steps."""
  steps = [p for p in (run / 'checkpoints').glob('*') if p.name.isdigit()]
  if len(steps) < 2:
    return 'no bit to flip yet'
  step = max(steps, key=lambda p: int(p.name))
  path = max(
    (p for p in (step / 'state').rglob('*') if p.is_file()),
    key=lambda p: p.stat().st_size,
  )
  data = bytearray(path.read_bytes())
  n = chance.randrange(len(data))
  data[n] ^= 1 << chance.randrange(8)
  path.write_bytes(data)
  return f'a bit of step {step.name} flipped'


def compare(run, whole):
  """Where two finished runs differ."""
  faults = []
  for name in ('metrics.jsonl', 'samples.jsonl'):
    ours, theirs = (
      [
        metrics.without_timings(line)
        for line in files.read_jsonl(folder / name)
      ]
      for folder in (run, whole)
    )
    if ours != theirs:
      same = [a == b for a, b in zip(ours, theirs)]
      where = same.index(False) if False in same else len(same)
      faults.append(f'{name} differ from line {where + 1} on')
  files = {p.name for p in (whole / 'model').iterdir()}
  if files != {p.name for p in (run / 'model').iterdir()}:
    faults.append('the models have other files')
  for name in sorted(files):
    a, b = (folder / 'model' / name for folder in (run, whole))
    if not a.exists() or a.read_bytes() != b.read_bytes():
      faults.append(f'model/{name} differs')
  return faults


if __name__ == '__main__':
  sys.exit(main())
