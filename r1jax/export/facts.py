"""What a run has recorded about a step: held-out figures, software, data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1jax import config as configs
from r1jax import files
from r1jax.data import templates
from r1jax.evaluation import held_out
from r1jax.export.source import Source
from r1jax.supervised import sft_config
from r1jax.training import metrics, starts

FIGURES = {  # title: (metric, ends of its 95 % interval)
  'pass@1': ('eval/pass1', 'eval/low', 'eval/high'),
  'reward': ('eval/reward', 'eval/reward_low', 'eval/reward_high'),
  'held-out loss': ('eval/loss', 'eval/loss_low', 'eval/loss_high'),
}
# Of what an evaluation is over.
COUNTS = {'eval/problems', 'eval/records'}


def evaluations(source: Source) -> list[dict]:
  """The lines of metrics.jsonl with held-out figures, up to the step."""
  if source.run is None:
    return []
  path = source.run.path / metrics.FILES[0]
  lines = files.read_jsonl(path) if path.exists() else []
  found = []
  for line in lines:
    is_later = source.step is not None and line['step'] > source.step
    if not is_later and any(name.startswith('eval/') for name in line):
      found.append(line)
  return found


def count_evaluations(source: Source) -> int:
  """The number of evaluations of a run whose checkpoints are compared."""
  assert source.run
  lines = files.read_jsonl(source.run.path / metrics.FILES[0])
  return sum(1 for x in lines if x['step'] and COUNTS & x.keys())


def figures(source: Source) -> dict[str, tuple[str, ...]]:
  """FIGURES, and the metric of the best checkpoint if it is none of them."""
  found: dict[str, tuple[str, ...]] = dict(FIGURES)
  metric = best_by(source).removeprefix('-')
  if metric and all(metric not in names for names in found.values()):
    found[metric.removeprefix('eval/')] = (metric,)
  return found


def best_by(source: Source) -> str:
  """The metric by which the run calls a checkpoint the best; '' in a stage
  without evaluation."""
  config = source.config
  if not source.is_rl:
    return sft_config.best_metric(config)
  tables = [config.rewards, *config.by_domain.values()]
  return held_out.best_metric(config.eval, tables)


def figure(line: dict, metric: str, low: str = '', high: str = '') -> str:
  """A figure with its interval, as text; '' if it is not known."""
  value, ends = line.get(metric), (line.get(low), line.get(high))
  if value is None:
    return ''
  text = f'{value:.3f}'
  if None not in ends:
    text += f' [{ends[0]:.3f}, {ends[1]:.3f}]'
  return text


def last_start(source: Source) -> dict[str, Any]:
  """The line of starts.jsonl about the process that made the step; that of this
  process for a model without a run, or without the file."""
  lines: Sequence[dict] = []
  if source.run:
    path = source.run.path / starts.FILE
    lines = files.read_jsonl(path) if path.exists() else []
  for line in reversed(lines):
    if source.step is None or line['step'] < source.step:
      return {key: value for key, value in line.items() if key != 'host'}
  return this_process()


def this_process() -> dict[str, Any]:
  """The software of the export."""
  return starts.commit() | dict(packages=starts.versions())


def prompts(source: Source) -> list[tuple[str, str]]:
  """(key, value) of the data, and of its content where config.json has it."""
  assert source.run
  config, rows = source.config, []
  options = {key: value for key, value, _ in configs.named_options(config)}
  main = 'prompts' if source.is_rl else 'data'
  names = [main, 'eval.data']
  recorded = source.run.record.inputs or {}
  for name in names:
    if data := options[name]:
      rows.append((name, str(data)))
    for file in sorted(recorded[name]['files'] if name in recorded else {}):
      rows.append(('file', Path(file).name))
  if not config.eval.data and config.eval.held_out and best_by(source):
    rows.append((f'held out of {main}', str(config.eval.held_out)))
  return rows


def template(source: Source) -> str:
  """The run's prompt template as text."""
  name = source.config.prompt.template
  return templates.TEMPLATES.get(name, name)
