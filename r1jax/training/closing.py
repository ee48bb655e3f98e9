"""What a finished stage prints: what it reached, how long it took, where the
result is, and what to do next; and what an interrupted one has saved."""

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from r1jax import files
from r1jax.training import run_directory

# The metrics that say what a training run reached, the first that it has: title
# and form by name.
RESULTS = {
  'eval/pass1': ('pass@1', '.3f'),
  'eval/accuracy': ('accuracy', '.3f'),
  'eval/loss': ('held-out loss', '.4f'),
  'eval/reward': ('held-out reward', '.3f'),
  'reward': ('reward', '.3f'),
  'loss': ('loss', '.4f'),
}
LOWER_IS_BETTER = {'eval/loss'}
# The metrics of their 95 % intervals, and of the number that they are over.
INTERVALS = {
  'eval/pass1': ('eval/low', 'eval/high'),
  'eval/accuracy': ('eval/low', 'eval/high'),
  'eval/loss': ('eval/loss_low', 'eval/loss_high'),
  'eval/reward': ('eval/reward_low', 'eval/reward_high'),
}
COUNTS = {
  'eval/pass1': ('eval/problems', 'held-out problems'),
  'eval/accuracy': ('eval/records', 'held-out records'),
  'eval/loss': ('eval/records', 'held-out records'),
  'eval/reward': ('eval/problems', 'held-out problems'),
}


def show(
  result: str, did: str, began: float, where: str, following: Mapping[str, str]
) -> None:
  """Prints the lines of a stage that began at a time of time.monotonic().
  `following` are the commands that may follow, with what each is for."""
  lines = [result] if result else []
  seconds = duration(time.monotonic() - began)
  lines.append(f'{did} in {seconds}; {where}')
  width = max(map(len, following), default=0)
  for n, (command, purpose) in enumerate(following.items()):
    lines.append(f'{"      " if n else "next: "}{command:{width}}  {purpose}')
  print('\n'.join(lines), flush=True)


def show_training(
  workdir: Path,
  began: float,
  first_step: int,
  following: Mapping[str, str],
  metric: str = '',
) -> None:
  """Prints the lines of a training stage that continued from `first_step`. The
  metric is that of config.eval.best."""
  path = workdir / 'metrics.jsonl'
  lines = files.read_jsonl(path) if path.exists() else []
  last_step = max([line['step'] for line in lines], default=first_step)
  did = f'steps {first_step + 1} to {last_step}'
  if first_step == 0:
    did = f'{last_step} steps'
  where = f'the model is {workdir / "model"}'
  report = command('report', '--workdir', workdir)
  following = {report: 'curves and samples on a page', **following}
  saved = [path.name for path in (workdir / 'checkpoints').glob('*')]
  show(result_line(lines, saved, metric), did, began, where, following)


def result_line(
  lines: Sequence[Mapping], saved: Sequence[str], metric: str = ''
) -> str:
  """The first and the last value of the metric, or of the first of RESULTS that
  a run has, with their 95 % intervals; '' if it has none. A metric of which the
  lowest value is the best begins with -. `saved` are the names of the
  checkpoints."""
  chosen, results = metric.removeprefix('-'), dict(RESULTS)
  if metric:
    results = {chosen: (chosen, '.3f'), **RESULTS}
  for name, (title, form) in results.items():
    found = [line for line in lines if line.get(name) is not None]
    if not found:
      continue
    first, last = found[0], found[-1]
    before, after = _value(first, name, form), _value(last, name, form)
    if len(found) == 1:
      return f'{title} {after} at step {last["step"]}{_of(last, name)}'
    steps = f'(steps {first["step"]} and {last["step"]})'
    text = f'{title} {before} -> {after} {steps}{_of(last, name)}'
    is_lower_better = name in LOWER_IS_BETTER and metric != name
    choose = min if is_lower_better or metric == f'-{name}' else max
    if name.startswith('eval/'):
      values = {line['step']: line[name] for line in found}
      text += _best(values, saved, choose, form)
    return text
  return ''


def _best(values, saved, choose, form):
  """What is said of the best step before the last that has a checkpoint, and of
  a better one that has none. Step 0 never has one; its value is the first."""
  last, text = max(values), ''
  best = values[last]
  others = {n: x for n, x in values.items() if 0 < n < last}
  with_checkpoint = {n: x for n, x in others.items() if str(n) in saved}
  for steps in with_checkpoint, others:
    step = choose(steps, key=values.get, default=last)
    if choose(values[step], best) == best:
      continue
    best = values[step]
    if step in with_checkpoint:
      text += f'; best {best:{form}} at step {step}'
    else:
      text += (
        f'; {best:{form}} at step {step}, of which there is no checkpoint '
        '(config.save_every)'
      )
  return text


def kept_after_interrupt(workdir: Path, settings: ConfigDict) -> str:
  """What an interrupted command has saved, and what to do next. Ctrl-C saves
  no checkpoint, as SIGTERM does."""
  if not settings:  # a report
    return 'the same command writes it anew'
  steps, chunks = run_directory.saved(workdir)
  if steps:
    return f'the same command continues from the checkpoint of step {steps}'
  if chunks:
    return f'{chunks} chunks are saved, and the same command continues there'
  text = 'nothing was saved yet, so the same command begins again'
  if 'save_every' in settings:
    text += (
      f' (config.save_every={settings.save_every} steps between checkpoints; '
      'SIGTERM saves one and ends: kill PID)'
    )
  return text


def command(name: str, *arguments: object) -> str:
  """A command of r1jax for a shell."""
  return shlex.join(['python', '-m', 'r1jax', name, *map(str, arguments)])


def duration(seconds: float) -> str:
  """Seconds as 14 s, 3:05 min or 2:03:05 h."""
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02}:{rest:02} h'
  return f'{minutes}:{rest:02} min' if minutes else f'{rest} s'


def _value(line, name, form):
  """A value with its interval, if the line has one."""
  text = f'{line[name]:{form}}'
  if name in INTERVALS:
    low, high = map(line.get, INTERVALS[name])
    if low is not None and high is not None:
      text += f' [{low:{form}}, {high:{form}}]'
  return text


def _of(line, name):
  """The number of problems or records that a value is over."""
  if name not in COUNTS:
    return ''
  count, unit = COUNTS[name]
  return f', {line[count]:.0f} {unit}' if line.get(count) is not None else ''
