"""Tables of evaluations beside the paper's figures, as markdown and HTML."""

import html
import re
import textwrap

# In percent, as the papers print them. R1's and R1-Zero's are Table 3, their
# majorities the text's; the distilled models are Tables 6 and 15 to 17.
# fmt: off
COLUMNS = (
  'AIME 2024', 'AIME 2024 majority', 'MATH-500', 'GPQA', 'LiveCodeBench',
  'Codeforces', 'GSM8K', 'MATH',
)
PAPER = {
  'DeepSeek-R1-Zero': (77.9, 86.7, 95.9, 75.8, 50.0, 1444, None, None),
  'DeepSeek-R1': (79.8, 86.7, 97.3, 71.5, 65.9, 2029, None, None),
  'R1-Distill-Qwen-1.5B': (28.9, 52.7, 83.9, 33.8, 16.9, 954, None, None),
  'R1-Distill-Qwen-7B': (55.5, 83.3, 92.8, 49.1, 37.6, 1189, None, None),
  'R1-Distill-Llama-8B': (50.4, 80.0, 89.1, 49.0, 39.6, 1205, None, None),
  'R1-Distill-Qwen-14B': (69.7, 80.0, 93.9, 59.1, 53.1, 1481, None, None),
  'R1-Distill-Qwen-32B': (72.6, 83.3, 94.3, 62.1, 57.2, 1691, None, None),
  'R1-Distill-Llama-70B': (70.0, 86.7, 94.5, 65.2, 57.5, 1633, None, None),
  'Qwen2.5-32B-Zero': (47.0, 60.0, 91.6, 55.0, 40.2, None, None, None),
  'DeepSeekMath-7B-RL': (None,) * 6 + (88.2, 51.7),
}
# fmt: on
ALIASES = {
  **dict.fromkeys(('aime24', 'aime2024'), 'AIME 2024'),
  **dict.fromkeys(('gpqa', 'gpqad', 'gpqadiamond'), 'GPQA'),
  **dict.fromkeys(('livecodebench', 'lcb'), 'LiveCodeBench'),
  **{'math500': 'MATH-500', 'gsm8k': 'GSM8K', 'math': 'MATH'},
}
NOTES = (
  'Ours: percent with a 95 % interval, by bootstrap over the problems, or '
  "Wilson's where they all have the same mean or one sample each. A truncated "
  'response counts as it stands, mostly as wrong. Language: the words of the '
  "problem's language among those of the thinking, 0 % where it has none.",
  "The papers' rows: temperature 0.6, top-p 0.95, at most 32,768 tokens; k = "
  '64 samples for AIME 2024 and GPQA Diamond, 16 for MATH-500 and Codeforces, '
  '8 for LiveCodeBench (2024-08 to 2025-01); majority of 64 (of 16 in Fig. 1). '
  'GSM8K and MATH are of DeepSeekMath, by its own protocol: R1 states none. '
  'A row is comparable with ours as far as problems, prompt and lengths are.',
)
CODEFORCES_NOTE = (
  'Codeforces: maximum likelihood of the Elo model P(solved) = 1 / (1 + '
  "10^((d - r) / 400)); the percentile is read off the paper's own pairs from "
  '1444 (80.4) to 2029 (96.3), and is extrapolated outside of them. The paper '
  'does not state its formula.'
)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto;
       max-width: 72rem; padding: 0 1rem }
div { overflow-x: auto }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { border-bottom: 1px solid #ddd; padding: .2rem 1.2rem .2rem 0;
         text-align: left; white-space: nowrap }
tr.ours { font-weight: 600 }
pre { background: #f5f5f5; padding: .7rem; white-space: pre-wrap;
      overflow-wrap: anywhere }
.of { color: #666 }
"""


def known(name):
  """The paper's name of a set, or the name as it is."""
  return ALIASES.get(re.sub('[^a-z0-9]', '', name.lower()), name)


def tables(rows):
  """[(title, head, lines)] of [(label, what evaluate wrote)], ours first."""
  made = [
    ('Scores', *_scores(rows)),
    ('Samples', *_details(rows)),
    ('Paired differences of pass@1', *_paired(rows)),
    ('Codeforces', *_codeforces(rows)),
  ]
  return [(title, head, lines) for title, head, lines in made if lines]


def notes(rows):
  """What must be known to read the tables."""
  protocols = [
    f'{label}: {x["model"]}, {_protocol(x["protocol"])}.'
    for label, x in rows
    if x['sets']
  ]
  rated = any(x['codeforces'] for _, x in rows)
  return [*protocols, *NOTES, *([CODEFORCES_NOTE] if rated else [])]


def markdown(rows):
  """The tables with their notes, for a terminal or a README."""
  parts = []
  for title, head, lines in tables(rows):
    rule = ['---'] * len(head)
    parts += [f'## {title}', '', *map(_pipes, [head, rule, *lines]), '']
  return '\n'.join(parts + [f'- {note}' for note in notes(rows)]) + '\n'


def page(title, rows, samples):
  """The same as HTML that needs no other file; samples are (heading, prompt,
  response)."""
  e = html.escape
  ours, parts = {label for label, _ in rows}, []
  for heading, head, lines in tables(rows):

    def cells(kind, row):
      return ''.join(f'<{kind}>{e(x)}</{kind}>' for x in row)

    body = ''.join(
      f'<tr{" class=ours" * (row[0] in ours)}>{cells("td", row)}</tr>\n'
      for row in lines
    )
    parts.append(
      f'<h2>{e(heading)}</h2>\n<div><table>\n<tr>{cells("th", head)}</tr>\n'
      f'{body}</table></div>'
    )
  parts += [f'<p class="of">{e(note)}</p>' for note in notes(rows)]
  parts += ['<h2>Responses</h2>'] if samples else []
  for heading, prompt, response in samples:
    parts += [
      f'<p class="of">{e(heading)}</p>',
      f'<pre class="of">{e(prompt)}</pre>',
      f'<pre>{e(response)}</pre>',
    ]
  return (
    f'<!doctype html>\n<meta charset="utf-8">\n<title>{e(title)}</title>\n'
    f'<style>{STYLE}</style>\n<h1>{e(title)}</h1>\n' + '\n'.join(parts) + '\n'
  )


def _scores(rows):
  """A column a set, our rows above those of the paper that have a figure."""
  scores = [(label, _row(results)) for label, results in rows]
  head = list(dict.fromkeys(column for _, row in scores for column in row))
  lines = [[x, *(row.get(column, '') for column in head)] for x, row in scores]
  for name, figures in PAPER.items():
    figure = dict(zip(COLUMNS, figures, strict=True))
    if any(figure.get(column) for column in head):
      shown = [figure.get(column) or '' for column in head]
      lines.append([f'{name} (paper)', *map(str, shown)])
  return ['', *head], lines if head else []


def _row(results):
  """{column: text} of one evaluation."""
  row = {}
  for name, x in results['sets'].items():
    row[known(name)] = _interval(x['pass1'], x['interval'])
    if x['cons_k'] > 1:
      cons = _interval(x['cons'], x['cons_interval'])
      row[f'{known(name)} majority'] = f'{cons} of {x["cons_k"]}'
  if results['codeforces']:
    row['Codeforces'] = f'{results["codeforces"]["rating"]:.0f}'
  return row


def _details(rows):
  sets = [(label, *item) for label, x in rows for item in x['sets'].items()]
  ks = sorted({k for _, _, x in sets for k in x['pass_k']}, key=int)
  head = ['', 'set', 'problems', 'samples', 'pass@1']
  head += [f'pass@{k}' for k in ks]
  head += ['truncated', 'format', 'language', 'tokens']
  lines = [
    [
      label,
      name,
      str(x['problems']),
      str(x['samples']),
      _interval(x['pass1'], x['interval']),
      *(_percent(x['pass_k'][k]) if k in x['pass_k'] else '' for k in ks),
      *(_percent(x[key]) for key in ('truncated', 'format', 'language')),
      f'{x["length"]:.1f}',
    ]
    for label, name, x in sets
  ]
  return head, lines


def _paired(rows):
  head = ['', 'set', 'minus', 'difference', 'p, sign flips']
  lines = [
    [
      label,
      name,
      x['against'],
      _interval(x['difference'], x['interval']),
      f'{x["p"]:.2g}',
    ]
    for label, results in rows
    for name, x in results['paired'].items()
  ]
  return head, lines


def _codeforces(rows):
  head = ['', 'rating', 'contests', 'problems', 'attempts']
  found = [(label, x['codeforces']) for label, x in rows if x['codeforces']]
  lines = [
    [label, x['words'], *(str(x[key]) for key in head[2:])]
    for label, x in found
  ]
  return head, lines


def _protocol(x):
  template = textwrap.shorten(x['template'], 40, placeholder=' …')
  return (
    f'temperature {x["temperature"]:g}, top-p {x["top_p"]:g}, at most '
    f'{x["max_new_tokens"]:,} tokens, prompt {template!r}, seed {x["seed"]}'
  )


def _interval(value, interval):
  low, high = interval
  return f'{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]'


def _percent(value):
  return f'{100 * value:.1f}'


def _pipes(row):
  cells = (re.sub(r'\s+', ' ', cell).replace('|', r'\|') for cell in row)
  return f'| {" | ".join(cells)} |'
