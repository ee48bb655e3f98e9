"""The report of a run as one page that needs no other file."""

import html
import json
import re

from experiments.mini_r1 import drawing
from r1jax.evaluation import statistics
from r1jax.stages import report

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
  'silent',
  'long',
)
GENERAL = 'base', 'dev3', 'r1', 'long'
STYLE = """
td.held { background: #dcefe3 } td.not-held { background: #f8dcd2 }
td.not-decided { background: #eee } td, th { font-variant-numeric: tabular-nums }
table { font-size: 14px } h2 { margin-top: 2.2rem }
code { background: #f5f5f5; overflow-wrap: anywhere }
"""
ABOUT = (
  'DeepSeek-R1 in miniature: a base of two layers over a toy world in English '
  'and Chinese, trained here, then every stage of the paper. The digit sum '
  'modulo ten of eight digits is right if thought out in words; questions have '
  'better and worse answers; some should be refused. Every figure below is '
  'read from the files of this run, every verdict is computed by the rule that '
  'stands beside it. Intervals are 95 %, by bootstrap over held-out prompts, '
  'paired where two models are compared; they hold the chance of prompts, '
  'while the seeds show that of training. Seeds share their base, Dev1, Dev3 '
  'and reward models. Models are sampled at temperature 1 but where said otherwise.'
)


def html_of(run, claims):
  parts = [
    f'<p>{ABOUT}</p>',
    '<h2>Verdicts</h2>',
    verdicts(claims),
    '<h2>Stages</h2>',
    stages(run),
    '<h2>The course of training</h2>',
    image(drawing.course(run)),
    '<h2>Claims, with their figures</h2>',
    *map(block, claims),
    '<h2>g. Ablations of GRPO</h2>',
    "<p>R1-Zero's first 40 updates from the same base, seed 0, one thing "
    'changed at a time. Differences below the width of the bars say '
    'nothing.</p>',
    image(drawing.ablations(run)),
    '<h2>Distillation against RL: what each has cost</h2>',
    costs(run),
    "<h2>The paper's sampling: temperature 0.6, top-p 0.95</h2>",
    paper(run),
    '<h2>What they say</h2>',
    samples(run),
    '<h2>Times</h2>',
    times(run),
  ]
  return (
    '<!doctype html>\n<meta charset="utf-8">\n<title>mini-r1</title>\n'
    f'<style>{report.STYLE}{STYLE}</style>\n<h1>DeepSeek-R1 in miniature</h1>\n'
    + '\n'.join(parts)
    + '\n'
  )


def table(head, rows, marked=None):
  """Cells are text; the column `marked` is coloured by its verdict."""
  lines = [f'<tr>{"".join(f"<th>{html.escape(x)}</th>" for x in head)}</tr>']
  for row in rows:
    cells = ''
    for n, cell in enumerate(row):
      kind = f' class="{cell.replace(" ", "-")}"' if n == marked else ''
      cells += f'<td{kind}>{html.escape(cell)}</td>'
    lines.append(f'<tr>{cells}</tr>')
  return '<table>\n' + '\n'.join(lines) + '\n</table>'


def image(encoded):
  return f'<p><img alt="" src="data:image/png;base64,{encoded}"></p>'


def spread(figures):
  """The values of the seeds, least and greatest."""
  values = [x.value for x in figures]
  if len(values) == 1:
    return f'{values[0]:+.3f}'
  return f'{sum(values) / len(values):+.3f} ({min(values):+.3f} … {max(values):+.3f})'


def verdicts(claims):
  rows = [
    (
      x.key,
      x.sentence,
      x.paper,
      x.measure,
      spread(x.figures),
      str(len(x.figures)),
      x.verdict,
    )
    for x in claims
  ]
  head = (
    '',
    'claim',
    'the paper',
    'measured',
    'here: mean (least … greatest)',
    'seeds',
    'verdict',
  )
  return table(head, rows, 6)


def block(claim):
  e = html.escape
  rows = [figure_row(x) for x in claim.figures]
  rows += [figure_row(x, '(beside)') for x in claim.also]
  return (
    f'<h3>{claim.key}. {e(claim.sentence)}</h3>\n<p>Measured: '
    f'{e(claim.measure)}. {e(claim.rule)}. <b>{claim.verdict}</b>. '
    f'<span class="of">The paper: {e(claim.paper)}.</span></p>\n'
    + table(('', 'first', 'second', 'difference', '95 % interval'), rows)
  )


def figure_row(x, note=''):
  second = '' if x.b is None else f'{x.b:.3f}'
  value = '' if x.b is None else f'{x.value:+.3f}'
  interval = f'[{x.low:+.3f}, {x.high:+.3f}]'
  return f'{x.label} {note}'.strip(), f'{x.a:.3f}', second, value, interval


def shown(value_N):
  low, high = statistics.bootstrap_mean(value_N, seed=0)
  return f'{value_N.mean():.3f} [{low:.3f}, {high:.3f}]'


def stages(run):
  rows = []
  for name in STAGES:
    row = [name, shown(run.each('accuracy', name))]
    for measure in ('cons', 'language', 'readable'):
      row.append(f'{run.each(measure, name).mean():.3f}')
    row.append(f'{run.each("length", name).mean():.1f}')
    for measure in ('helpful', 'harmless'):
      known = name in GENERAL
      row.append(shown(run.each_general(measure, name)) if known else '')
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
  return table(head, rows)


def costs(run):
  """What either student learnt from; RL has sampled its rows as well, and the
  distilled student's were sampled by R1."""
  rows = []
  for name in ('sample_r1', 'distill', 'student_zero'):
    path = run.folder / name / 'config.json'
    config = json.loads(path.read_text())['config']
    updates, each = 0, 0
    if name != 'sample_r1':
      updates = len([x for x in run.metrics(name) if 'lr' in x])
      each = config.get('batch') or (
        config['grpo']['prompts_per_step'] * config['grpo']['group_size']
      )
    _, user, system = spent(run)[name]
    row = f'{updates:,}', f'{updates * each:,}', f'{user + system:.0f}'
    rows.append((name, *row))
  return table(('', 'updates', 'rows learnt from', 'processor seconds'), rows)


def paper(run):
  rows = []
  for name in ('base', 'zero', 'r1'):

    def each(measure):
      return run.each(measure, name, 'eval_paper')

    row = (name, shown(each('accuracy')), f'{each("cons").mean():.3f}')
    rows.append((*row, f'{each("language").mean():.3f}'))
  return table(('', 'pass@1', 'cons@16', 'language'), rows)


def samples(run):
  """The first English and Chinese problem, question and temptation, and what
  each model said first."""
  asked = {}
  for record in [*run.problems.values(), *run.general]:
    asked.setdefault((record['domain'], record['language']), record)
  parts = []
  for record in asked.values():
    rows = []
    for name in STAGES if record['domain'] == 'math' else GENERAL:
      if record['domain'] == 'math':
        said = [x for x in run.lines(name) if x['id'] == record['id']]
        texts = [x['response'] for x in said]
      else:
        texts = [t for x, t in run.said(name) if x['id'] == record['id']]
      rows.append((name, *texts[:2]))
    gold = f' (answer {record["answer"]})' if 'answer' in record else ''
    parts.append(f'<h3>{html.escape(record["prompt"] + gold)}</h3>')
    parts.append(table(('', 'first sample', 'second sample'), rows))
  return '\n'.join(parts)


def spent(run):
  """{command: [wall, user, system seconds]}, resumptions included."""
  total = {}
  for line in (run.folder / 'times.txt').read_text().splitlines():
    name, numbers = line.split(' ', 1)
    seconds = map(float, re.findall(r'[\d.]+(?= s)', numbers))
    old = total.get(name, (0, 0, 0))
    total[name] = [a + b for a, b in zip(old, seconds, strict=True)]
  return total


def times(run):
  rows = list(spent(run).items())
  rows.append(('everything', map(sum, zip(*(x for _, x in rows)))))
  return table(
    ('command', 'wall', 'user', 'system'),
    [(name, *(f'{x:.0f}' for x in seconds)) for name, seconds in rows],
  )
