"""The head of a report: what was run, on what, with which config, how long."""

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from r1jax.reports import elements
from r1jax.reports.charts import Mark
from r1jax.reports.run_metrics import Curve, Curves

DATA_KEYS = 'prompts', 'data'  # of the stages


def kind(config: Mapping[str, Any]) -> str:
  """What a run with these keys does."""
  if 'grpo' in config:
    return 'reinforcement learning (GRPO)'
  if 'part' in config:
    return 'reward model'
  if 'mtp_coef' in config:
    return 'supervised fine-tuning'
  return 'run'


def fact_rows(
  config: Mapping[str, Any],
  starts: Sequence[Mapping[str, Any]],
  model: Mapping[str, Any],
  found: Curves,
) -> list[tuple[str, str]]:
  """(name, text) of model, data, code, machine and time of a run. `model` is
  config.json of the result; {} without."""
  rows = [('model', _model(config, model))]
  for key in DATA_KEYS:
    if config.get(key):
      rows.append(('data', str(config[key])))
  if starts:
    last = starts[-1]
    rows += [('code', _code(last)), ('device', _device(last))]
    rows.append(('began', _began(starts)))
  if 'seconds' in found:
    seconds = float(np.nansum(found['seconds'].values))
    rows.append(
      ('duration', f'{duration(seconds)} in steps, evaluations not counted')
    )
  return [(name, text) for name, text in rows if text]


def versions(starts: Sequence[Mapping[str, Any]]) -> Markup:
  """The libraries of the last start."""
  packages = dict(starts[-1].get('packages', {})) if starts else {}
  if not packages:
    return Markup('')
  names = [f'{name} {version}' for name, version in packages.items()]
  if 'python' in starts[-1]:
    names.insert(0, f'Python {starts[-1]["python"]}')
  return elements.details('Versions', elements.note(', '.join(names)))


def config_difference(
  changed: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]
) -> Markup:
  """The keys that are not the defaults, and those changed within the run."""
  parts = []
  if changed:
    rows = [(key, *map(_json, pair)) for key, pair in changed.items()]
    table = elements.table(['key', 'default', 'here'], rows)
    keys = (
      'key is not the default' if len(rows) == 1 else 'keys are not defaults'
    )
    title = f'Config: {len(rows)} {keys}'
    parts.append(elements.details(title, table))
  if changes:
    rows = []
    for change in changes:
      ends = _json(change['old']), _json(change['new'])
      rows.append((str(change['step']), change['key'], *ends))
    head = ['from step', 'key', 'before', 'after']
    parts += [
      elements.heading('Changes during the run'),
      elements.table(head, rows),
    ]
  return elements.join(parts)


def marks(
  changes: Sequence[Mapping[str, Any]], starts: Sequence[Mapping[str, Any]]
) -> list[Mark]:
  """The steps at which the run was continued or its config changed."""
  made = []
  for start in starts[1:]:
    if start.get('step'):
      made.append(Mark(start['step'], f'continued from step {start["step"]}'))
  for change in changes:
    text = f'{change["key"]}: {_json(change["old"])} → {_json(change["new"])}'
    made.append(Mark(change['step'], f'from step {change["step"]}, {text}'))
  return made


def tiles(
  found: Curves, steps: int | None, is_finished: bool
) -> list[tuple[str, str, str]]:
  """The main figures: (name, figure, remark)."""
  made = []
  for name, title in (
    ('eval/pass1', 'held-out pass@1'),
    ('eval/accuracy', 'held-out accuracy'),
    ('eval/loss', 'held-out loss'),
  ):
    if name in found:
      made.append(_before_and_after(title, found[name], found))
  for name, title in (('reward', 'reward'), ('loss', 'loss')):
    if name in found and not (name == 'loss' and 'reward' in found):
      made.append(_first_and_last(title, found[name]))
  if 'length' in found:
    made.append(_first_and_last('response length', found['length']))
  done = max((int(x.steps[-1]) for x in found.values()), default=0)
  remark = 'finished' if is_finished else 'not finished'
  of_all = f' of {steps:,}' if steps else ''
  made.append(('steps', f'{done:,}{of_all}', remark))
  if 'seconds' in found:
    seconds = float(np.nansum(found['seconds'].values))
    middle = float(np.nanmedian(found['seconds'].values))
    remark = f'median {middle:.3g} s a step'
    made.append(('time in steps', duration(seconds), remark))
  return made


def duration(seconds: float) -> str:
  """Seconds as the two largest units."""
  if not math.isfinite(seconds) or seconds < 0:
    return '?'
  for unit, small, size, small_size in (
    ('d', 'h', 86400, 3600),
    ('h', 'min', 3600, 60),
    ('min', 's', 60, 1),
  ):
    if seconds >= size:
      return f'{seconds // size:.0f} {unit} {seconds % size // small_size:.0f} {small}'
  return f'{seconds:.3g} s'


def _before_and_after(title, curve: Curve, found):
  values = curve.values[np.isfinite(curve.values)]
  if not len(values):
    return title, '–', 'nothing was judged'
  remark = ''
  if 'eval/low' in found and 'eval/high' in found:
    low, high = found['eval/low'].values[-1], found['eval/high'].values[-1]
    remark = f'95 %: {low:.3f} to {high:.3f}'
  if len(values) == 1:
    return title, f'{values[0]:.3f}', remark
  return title, f'{values[0]:.3f} → {values[-1]:.3f}', remark


def _first_and_last(title, curve: Curve):
  """The means of the first and the last tenth of the steps."""
  values = curve.values[np.isfinite(curve.values)]
  if not len(values):
    return title, '–', ''
  tenth = max(1, len(values) // 10)
  first, last = values[:tenth].mean(), values[-tenth:].mean()
  remark = f'means of {tenth:,} steps' if tenth > 1 else 'first and last step'
  return title, f'{first:.3g} → {last:.3g}', remark


def _model(config, model):
  names = []
  if model:
    names.append(str(model.get('model_type', 'model')))
    for key, name in (('num_hidden_layers', 'layers'), ('hidden_size', 'wide')):
      if key in model:
        names.append(f'{model[key]} {name}')
  init = config.get('init', '')
  return f'{init} ({", ".join(names)})' if names else str(init)


def _code(start):
  texts = [f'r1jax {start["packages"]["r1jax"]}'] if 'packages' in start else []
  if 'commit' in start:
    changed = ' with changes' if start.get('has_changes') else ''
    texts.append(f'commit {start["commit"][:12]}{changed}')
  if 'packages' in start:
    texts.append(f'jax {start["packages"].get("jax", "?")}')
  return ', '.join(texts)


def _device(start):
  texts = [start['devices']] if 'devices' in start else []
  if start.get('processes', 1) > 1:
    texts.append(f'{start["processes"]} processes')
  if 'host' in start:
    texts.append(f'host {start["host"]}')
  return ', '.join(texts)


def _began(starts):
  texts = [start['time'] for start in starts if 'time' in start]
  if len(starts) == 1 or not texts:
    return ', '.join(texts)
  steps = ', '.join(str(start.get('step', '?')) for start in starts[1:])
  days = ''
  try:
    first, last = (datetime.datetime.fromisoformat(texts[n]) for n in (0, -1))
    days = f', the last time {duration((last - first).total_seconds())} later'
  except ValueError:
    pass
  return f'{texts[0]}; continued from step {steps}{days}'


def _json(value):
  return json.dumps(value, ensure_ascii=False, default=str)
