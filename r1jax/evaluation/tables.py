"""Tables of evaluations and of the papers' scores, as Markdown and HTML."""

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from r1jax.reports import elements
from r1jax.reports import page as reports_page

# In percent, as the papers print them. R1's and R1-Zero's are Table 3, their
# majorities the text's; the distilled models are Tables 6 and 15 to 17.
COLUMNS = (
  'AIME 2024, AIME 2024 majority, MATH-500, GPQA, LiveCodeBench, Codeforces, '
  'GSM8K, MATH'
).split(', ')
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
  'DeepSeekMath-7B-RL': (None, None, None, None, None, None, 88.2, 51.7),
}
# Names of sets in lower case, without other characters than letters and digits.
ALIASES = {
  'AIME 2024': ('aime24', 'aime2024'),
  'MATH-500': ('math500',),
  'GPQA': ('gpqa', 'gpqad', 'gpqadiamond'),
  'LiveCodeBench': ('lcb', 'livecodebench'),
  'GSM8K': ('gsm8k',),
  'MATH': ('math',),
}
NOTES = (
  'Our rows: percent with a 95 % interval over the problems (Gaffke; of one '
  "sample a problem, Clopper and Pearson's). Language: the share of words in "
  "the problem's language in the thinking, 0 % without words.",
  'Majority: votes for answers that the verifier finds equal add up; programs '
  'have none. Differences are of the same problems; each may be from -1 to 1, '
  'so few problems leave a wide interval. p: the signs of the differences are '
  'random if the models are equal.',
  "The papers' rows: temperature 0.6, top-p 0.95, at most 32,768 tokens; k = "
  '64 samples for AIME 2024 and GPQA Diamond, 16 for MATH-500 and Codeforces, '
  '8 for LiveCodeBench (2024-08 to 2025-01); majority of 64 (of 16 in Fig. 1). '
  "GSM8K and MATH are DeepSeekMath's, by its own protocol. Rows are comparable "
  'only if problems, prompt and lengths are the same.',
)
CODEFORCES_NOTE = (
  'Codeforces: maximum likelihood of the Elo model P(solved) = 1 / (1 + '
  "10^((d - r) / 400)); the paper's formula is unknown. The 95 % interval has "
  'exact tails of 2.5 %; attempts that agree count as fewer. Percentiles are '
  "linear in log odds between the paper's, 1444 (80.4) to 2029 (96.3), and "
  'beyond.'
)

Rows = Sequence[tuple[str, dict]]  # (label, results.json of an evaluation)
Table = tuple[str, list[str], list[list[str]]]  # (title, head, lines)


def paper_name(name: str) -> str:
  """The paper's name of a set, or the name itself."""
  plain = re.sub('[^a-z0-9]', '', name.lower())
  return next((x for x, names in ALIASES.items() if plain in names), name)


def tables(rows: Rows) -> list[Table]:
  """The tables of several evaluations; those without lines are left out."""
  paired, codeforces = [], []
  counts = ['contests', 'problems', 'attempts']
  for label, results in rows:
    for name, x in results['paired'].items():
      difference = _interval(x['difference'], x['interval'])
      paired.append([label, name, x['baseline'], difference, f'{x["p"]:.2g}'])
    if x := results['codeforces']:
      codeforces.append([label, x['text'], *(str(x[key]) for key in counts)])
  head = ['', 'set', 'minus', 'difference', 'p, sign flips']
  made = [
    _scores(rows),
    _samples(rows),
    ('Paired differences of pass@1', head, paired),
    ('Codeforces', ['', 'rating', *counts], codeforces),
  ]
  return [table for table in made if table[2]]


def notes(rows: Rows) -> list[str]:
  """The protocols of the evaluations, and how to read the tables."""
  lines = []
  for label, results in rows:
    if results['sets']:
      x = results['protocol']
      template = textwrap.shorten(x['template'], 40, placeholder=' …')
      lines.append(
        f'{label}: {results["model"]}, temperature {x["temperature"]:g}, top-p '
        f'{x["top_p"]:g}, at most {x["max_new_tokens"]:,} tokens, prompt '
        f'{template!r}, seed {x["seed"]}.'
      )
  lines += NOTES
  if any(results['codeforces'] for _, results in rows):
    lines.append(CODEFORCES_NOTE)
  return lines


def markdown(rows: Rows) -> str:
  """The tables and notes for a terminal or a README."""
  parts = []
  for title, head, lines in tables(rows):
    parts += [f'## {title}', '']
    for line in [head, ['---'] * len(head), *lines]:
      cells = (re.sub(r'\s+', ' ', cell).replace('|', r'\|') for cell in line)
      parts.append(f'| {" | ".join(cells)} |')
    parts.append('')
  parts += [f'- {note}' for note in notes(rows)]
  return '\n'.join(parts) + '\n'


def parts(rows: Rows) -> list[object]:
  """The same as parts of a page, our rows bold."""
  labels, made = {label for label, _ in rows}, []
  for title, head, lines in tables(rows):
    for n, line in enumerate(lines):
      if line[0] in labels:
        cells = [elements.escape(cell) for cell in line]
        lines[n] = [Markup(f'<b>{cell}</b>') for cell in cells]
    table = elements.table(head, lines)
    made += [
      elements.heading(title),
      Markup(f'<div class="dense">{table}</div>'),
    ]
  return [*made, *map(elements.note, notes(rows))]


def page(rows: Rows, samples: Sequence[tuple[str, str, str]]) -> str:
  """A page of the tables with (heading, prompt, response) below."""
  shown = parts(rows)
  if samples:
    shown.append(elements.heading('Responses'))
  shown += [elements.sample(*sample) for sample in samples]
  return reports_page.render('Evaluation', shown)


def _scores(rows):
  """A column for each set; our rows, then the paper's rows with a score."""
  ours = []
  for label, results in rows:
    cells = {}
    for name, x in results['sets'].items():
      column = paper_name(name)
      cells[column] = _interval(x['pass1'], x['interval'])
      if x['majority_k'] > 1:
        score = _interval(x['majority'], x['majority_interval'])
        cells[f'{column} majority'] = f'{score} of {x["majority_k"]}'
        if x['majority_problems'] < x['problems']:
          cells[f'{column} majority'] += f', {x["majority_problems"]} problems'
    if results['codeforces']:
      cells['Codeforces'] = f'{results["codeforces"]["rating"]:.0f}'
    ours.append((label, cells))
  columns = list(dict.fromkeys(name for _, cells in ours for name in cells))
  lines = [[label, *(x.get(name, '') for name in columns)] for label, x in ours]
  for model, scores in PAPER.items():
    by_column = dict(zip(COLUMNS, scores, strict=True))
    shown = [str(by_column.get(name) or '') for name in columns]
    if any(shown):
      lines.append([f'{model} (paper)', *shown])
  return 'Scores', ['', *columns], lines if columns else []


def _samples(rows):
  sets = []
  for label, results in rows:
    sets += [(label, name, x) for name, x in results['sets'].items()]
  ks = sorted({k for _, _, x in sets for k in x['pass_k']}, key=int)
  means = ['truncated', 'format', 'language']
  head = ['', 'set', 'problems', 'samples', 'pass@1']
  head += [*(f'pass@{k}' for k in ks), *means, 'tokens']
  lines = []
  for label, name, x in sets:
    line = [label, name, str(x['problems']), str(x['samples'])]
    line.append(_interval(x['pass1'], x['interval']))
    line += [_pass_at(x, k) for k in ks]
    line += [f'{100 * x[key]:.1f}' for key in means]
    lines.append([*line, f'{x["length"]:.1f}'])
  return 'Samples', head, lines


def _pass_at(x, k):
  """pass@k with its interval, which results of earlier versions lack."""
  if k not in x['pass_k']:
    return ''
  if k not in x['pass_k_interval']:
    return f'{100 * x["pass_k"][k]:.1f}'
  return _interval(x['pass_k'][k], x['pass_k_interval'][k])


def _interval(value, interval):
  low, high = interval
  return f'{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]'


def data_frame(rows: list[dict]) -> Any:
  """The rows as a pandas DataFrame if pandas is installed, else as given."""
  try:
    import pandas
  except ImportError:
    return rows
  return pandas.DataFrame(rows)
