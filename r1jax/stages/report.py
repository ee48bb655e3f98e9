"""The page about a work directory: its head, its curves, its groups."""

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from r1jax import errors, files
from r1jax.evaluation import scores, tables
from r1jax.reports import (
  charts,
  elements,
  figures,
  groups,
  header,
  page,
  run_metrics,
)
from r1jax.reports.run_metrics import Curve
from r1jax.training import run_record

PAGE, IMAGE = 'report.html', 'report.png'
NO_TOKENS = (
  'Ratio and entropy of each token are recomputed on demand: r1jax report '
  '--workdir {folder} --tokens STEP.'
)


def write(workdir: str | Path) -> Path:
  """Writes report.html of a work directory, of a run with metrics report.png
  too. Returns the path of the page."""
  folder = Path(workdir)
  found = read_curves(folder)
  if found:
    figures.draw(found, folder / IMAGE)
    text = run_page(folder, found)
  elif (folder / 'results.json').exists():
    text = evaluation_page(folder)
  else:
    raise errors.UserError(
      f'there are no steps in {folder / "metrics.jsonl"}, and no results.json '
      f'of an evaluation: run a stage with --workdir {workdir}'
    )
  files.write_text(folder / PAGE, text)
  return folder / PAGE


def read_curves(folder: Path) -> dict[str, Curve]:
  """The curves of a run; {} without metrics."""
  return run_metrics.read(read_lines(folder, 'metrics.jsonl'))


def read_lines(folder: Path, name: str) -> list[dict]:
  """The lines of a file of a work directory; none without the file."""
  path = folder / name
  return files.read_jsonl(path) if path.exists() else []


def read_groups(
  folder: Path, name: str, count: int = groups.STEPS
) -> groups.Groups:
  """The logged groups of about `count` steps of a run, with the numbers of
  tokens of steps that have been recomputed."""
  problem = f'the samples in {folder} are not what a run has written'
  with errors.explained(problem, (KeyError, TypeError, AttributeError)):
    return groups.of_run(
      name,
      read_lines(folder, 'groups.jsonl'),
      read_lines(folder, 'samples.jsonl'),
      read_lines(folder, 'tokens.jsonl'),
      count,
    )


def run_page(folder: Path, found: dict[str, Curve]) -> str:
  """The page of a run with metrics."""
  record = run_record.read(folder)
  starts = read_lines(folder, 'starts.jsonl')
  config: dict[str, Any] = record.config if record else {}
  changes = record.changes if record else []
  is_finished = (folder / 'model').exists()
  parts: list[object] = [
    elements.tiles(header.tiles(found, config.get('steps'), is_finished)),
    elements.facts(
      header.fact_rows(config, starts, _model_config(folder), found)
    ),
    header.versions(starts),
  ]
  if record:
    parts.append(header.config_difference(record.changed, changes))
  shown = read_groups(folder, folder.resolve().name)
  marks, sections = header.marks(changes, starts), {}
  for title, filled in run_metrics.sections(found).items():
    sections[title] = [
      run_metrics.chart(panel, names, found, marks) for panel, names in filled
    ]
  no_tokens = NO_TOKENS.format(folder=folder)
  between = group_parts(shown, no_tokens) if shown else []
  parts += charts.sections(sections, between)
  zero = run_metrics.always_zero(found)
  if zero:
    parts.append(elements.note(f'Left out, since always 0: {", ".join(zero)}.'))
  table = elements.table(
    ['metric', 'first', 'last', 'meaning'], run_metrics.numbers(found)
  )
  parts += [elements.heading('Numbers'), elements.details('All metrics', table)]
  return page.render(
    folder.resolve().name,
    parts,
    subtitle=f'r1jax: {header.kind(config)}',
    data=dict(charts=charts.hover(sections), groups=shown),
  )


def group_parts(shown: groups.Groups, no_tokens: str = '') -> list[object]:
  """The heading of the groups, and what the script fills."""
  parts: list[object] = [elements.heading('Samples')]
  has_tokens = any('tokens' in x for one in shown for x in one['responses'])
  if no_tokens and not has_tokens:
    parts.append(elements.note(no_tokens))
  return [*parts, Markup('<div id="groups"></div>')]


def evaluation_page(folder: Path) -> str:
  """The page of an evaluation: its tables, and all samples of problems."""
  results = scores.read(str(folder))
  parts = tables.parts([(folder.resolve().name, results)])
  shown: groups.Groups = []
  for name, facts in results['sets'].items():
    lines = scores.read_lines(folder, name)
    shown += groups.of_problems(name, lines, facts['samples'])
  starts, record = read_lines(folder, 'starts.jsonl'), run_record.read(folder)
  config: dict[str, Any] = record.config if record else {}
  rows = header.fact_rows(config, starts, {}, {})
  head: list[object] = [elements.facts(rows), header.versions(starts)]
  if record:
    head.append(header.config_difference(record.changed, record.changes))
  if shown:
    parts = [*parts, *group_parts(shown)]
  return page.render(
    folder.resolve().name,
    [*head, *parts],
    subtitle='r1jax: evaluation',
    data=dict(groups=shown),
  )


def _model_config(folder):
  """config.json of the result of a run; {} without one."""
  path = folder / 'model' / 'config.json'
  if not path.exists():
    return {}
  with errors.explained(f'{path} is not readable JSON', ValueError):
    return json.loads(path.read_text(encoding='utf-8'))
