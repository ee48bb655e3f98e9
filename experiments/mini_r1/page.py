"""The report of a run of the miniature, as one page without external files."""

import json
import re
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from experiments.mini_r1 import drawing, measures
from r1jax.reports import charts, elements
from r1jax.reports import page as pages

STAGES = (
  'base',
  'zero',
  'dev1',
  'dev2',
  'dev3',
  'r1',
  'student_base',
  'distill',
  'student_zero',
  'no_language',
  'early_preferences',
)
GENERAL = 'base', 'dev3', 'r1', 'early_preferences'  # with general prompts
ABOUT = (
  'All stages of DeepSeek-R1 in miniature, on synthetic data in English and '
  'Chinese. The base model has two layers. The problems are sums of eight '
  'digits modulo ten, which the model solves by thinking in words; there are '
  'also questions with better and worse answers, and harmful requests. All '
  'figures are read from the files of this run. A verdict is computed by the '
  'rule given with it. Intervals are 95 %, by bootstrap over held-out prompts, '
  'paired where two models are compared. They cover the variation of prompts; '
  'the seeds show that of training. The seeds share the base model, Dev1, Dev3 '
  'and the reward models. The sampling temperature is 1 unless stated '
  'otherwise. The run no_language is Dev2 without the language reward, '
  'early_preferences is R1 with preference rewards from the first step on.'
)


def html_of(run, claims) -> str:
  """The page of a measures.Run and its claims."""
  drawn = dict(
    training=drawing.training_charts(run),
    ablations=drawing.ablation_charts(run),
  )
  head = 'ablation', 'value', 'pass@1, 95 % interval', 'tokens'
  parts = [
    elements.note(ABOUT),
    elements.heading('Verdicts'),
    verdict_table(claims),
    elements.heading('Stages'),
    stage_table(run),
    elements.heading('Training curves'),
    charts.section(drawn['training']),
    elements.heading('Claims and their figures'),
    *[claim_section(claim) for claim in claims],
    elements.heading('Ablations of GRPO'),
    elements.note(
      'The first 40 updates of R1-Zero from the same base model, seed 0, with '
      'one change each. Differences below the width of the intervals are not '
      'significant.'
    ),
    elements.table(head, drawing.ablation_rows(run)),
    charts.section(drawn['ablations'], len(drawn['training'])),
    elements.heading('Costs of distillation and RL'),
    cost_table(run),
    elements.heading('The sampling of the paper: temperature 0.6, top-p 0.95'),
    paper_sampling_table(run),
    elements.heading('Samples'),
    sample_tables(run),
    elements.heading('Times'),
    time_table(run),
  ]
  return pages.render(
    'DeepSeek-R1 in miniature',
    parts,
    data=dict(charts=charts.hover(drawn)),
  )


def verdict_table(claims) -> Markup:
  rows = [
    (
      claim.key,
      claim.sentence,
      claim.paper,
      claim.measure,
      range_over_seeds(claim.figures),
      str(len(claim.figures)),
      Markup(f'<span class="{claim.verdict}">{claim.verdict}</span>'),
    )
    for claim in claims
  ]
  head = (
    '',
    'claim',
    'paper',
    'measure',
    'here: mean (min … max)',
    'seeds',
    'verdict',
  )
  return elements.table(head, rows)


def range_over_seeds(figures) -> str:
  """Mean, minimum and maximum over the seeds."""
  values = [figure.value for figure in figures]
  text = f'{sum(values) / len(values):+.3f}'
  if len(values) == 1:
    return text
  return f'{text} ({min(values):+.3f} … {max(values):+.3f})'


def claim_section(claim) -> Markup:
  """A claim with its rule, its verdict and all its figures."""
  escape = elements.escape
  rows = [figure_row(figure) for figure in claim.figures]
  rows += [figure_row(figure, ' (not in the verdict)') for figure in claim.also]
  head = '', 'first', 'second', 'difference', '95 % interval'
  return Markup(
    f'<h3>{claim.key}. {escape(claim.sentence)}</h3>\n<p>Measure: '
    f'{escape(claim.measure)}. {escape(claim.rule)}. <b>{claim.verdict}</b>. '
    f'<span class="grey">The paper: {escape(claim.paper)}.</span></p>\n'
    + elements.table(head, rows)
  )


def figure_row(figure, note: str = '') -> tuple[str, ...]:
  interval = f'[{figure.low:+.3f}, {figure.high:+.3f}]'
  second = value = ''
  if figure.b is not None:
    second, value = f'{figure.b:.3f}', f'{figure.value:+.3f}'
  return figure.label + note, f'{figure.a:.3f}', second, value, interval


def mean_with_interval(measure: str, value_P: np.ndarray) -> str:
  low, high = measures.mean_interval(measure, value_P)
  return f'{value_P.mean():.3f} [{low:.3f}, {high:.3f}]'


def stage_table(run) -> Markup:
  rows = []
  for name in STAGES:
    row = [name, mean_with_interval('accuracy', run.means('accuracy', name))]
    for measure in ('majority', 'language', 'readable'):
      row.append(f'{run.means(measure, name).mean():.3f}')
    row.append(f'{run.means("length", name).mean():.1f}')
    for measure in ('helpful', 'harmless'):
      if name in GENERAL:
        means = run.general_means(measure, name)
        row.append(mean_with_interval(measure, means))
      else:
        row.append('')
    rows.append(row)
  head = (
    'stage',
    'pass@1',
    'cons@16',
    'language',
    'readable',
    'tokens',
    'helpful',
    'harmless',
  )
  return elements.table(head, rows)


def cost_table(run) -> Markup:
  """Updates, rows and processor time of both students. RL also samples its
  rows; the rows of the distilled student were sampled by R1."""
  rows, times = [], read_times(run)
  for name in ('sample_r1', 'distill', 'student_zero'):
    path = run.folder / name / 'config.json'
    config = json.loads(path.read_text())['config']
    updates = rows_per_update = 0
    if name != 'sample_r1':
      updates = sum('lr' in line for line in run.metrics(name))
      rows_per_update = config.get('batch_size') or (
        config['grpo']['prompts_per_step'] * config['grpo']['group_size']
      )
    _, user, system = times[name]
    trained = f'{updates * rows_per_update:,}'
    rows.append((name, f'{updates:,}', trained, f'{user + system:.0f}'))
  return elements.table(
    ('', 'updates', 'rows trained on', 'processor seconds'), rows
  )


def paper_sampling_table(run) -> Markup:
  rows = []
  for name in ('base', 'zero', 'r1'):
    row = [name]
    row.append(
      mean_with_interval('accuracy', run.means('accuracy', name, 'eval_paper'))
    )
    for measure in ('majority', 'language'):
      row.append(f'{run.means(measure, name, "eval_paper").mean():.3f}')
    rows.append(row)
  return elements.table(('', 'pass@1', 'cons@16', 'language'), rows)


def sample_tables(run) -> Markup:
  """Two samples of each model for the first problem, question and harmful
  request of each language."""
  chosen = {}
  for record in [*run.problems.values(), *run.general]:
    chosen.setdefault((record['domain'], record['language']), record)
  parts = []
  for record in chosen.values():
    models = STAGES if record['domain'] == 'math' else GENERAL
    rows = [(name, *responses(run, record, name)[:2]) for name in models]
    gold = f' (answer {record["answer"]})' if 'answer' in record else ''
    title = elements.escape(record['prompt'] + gold)
    parts.append(Markup(f'<h3>{title}</h3>'))
    parts.append(elements.table(('', 'first sample', 'second sample'), rows))
  return elements.join(parts)


def responses(run, record: dict, model: str) -> list[str]:
  """The responses of a model to a held-out record."""
  if record['domain'] == 'math':
    lines = run.lines(model)
    return [x['response'] for x in lines if x['id'] == record['id']]
  pairs = run.general_responses(model)
  return [text for other, text in pairs if other['id'] == record['id']]


def read_times(run) -> dict[str, Sequence[float]]:
  """{command: (wall, user, system) seconds}, summed over interruptions."""
  times = {}
  for line in (run.folder / 'times.txt').read_text().splitlines():
    name, numbers = line.split(' ', 1)
    seconds = [float(x) for x in re.findall(r'[\d.]+(?= s)', numbers)]
    times[name] = np.add(times.get(name, (0, 0, 0)), seconds)
  return times


def time_table(run) -> Markup:
  times = read_times(run)
  times['total'] = np.sum(list(times.values()), axis=0)
  rows = []
  for name, seconds in times.items():
    rows.append((name, *[f'{x:.0f}' for x in seconds]))
  return elements.table(('command', 'wall', 'user', 'system'), rows)
