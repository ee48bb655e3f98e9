"""Compares runs on one page: the means over seeds of each setting, with 95 %
intervals."""

import ast
from collections.abc import Sequence
from pathlib import Path

from r1jax import errors, files
from r1jax.ablation import compare
from r1jax.command_errors import CommandParser

USAGE = 'RUN [RUN …] [--by KEY …] [--metric NAME] [--out FILE]'
EPILOG = """\
RUN is a work directory, or a folder whose subfolders are work directories, such
as that of a sweep. Runs with the same values of the keys are one setting; they
should have different seeds."""


def make_parser() -> CommandParser:
  parser = CommandParser('compare', USAGE, __doc__, EPILOG)
  add = parser.add_argument
  add('runs', metavar='RUN', nargs='+', help='a work directory')
  add(
    '--by',
    metavar='KEY',
    action='append',
    help='a key of the config; by default all in which the runs differ',
  )
  add(
    '--metric', metavar='NAME', help='of the table; default: pass@1 or reward'
  )
  add(
    '--baseline',
    metavar='VALUE',
    action='append',
    help='the value of each --by that the others are compared to',
  )
  add('--out', metavar='FILE', default='compare.html', help='the page')
  return parser


def run(arguments: Sequence[str]) -> int:
  """Prints the table of the comparison, writes the page and prints its path."""
  options = make_parser().parse(arguments)
  path = Path(options.out)
  files.check_local(options.out, 'the page')
  if path.is_dir():
    raise errors.UserError(
      f'--out is {path}, a folder: give the path of a file'
    )
  found = compare.compare(
    work_directories(options.runs),
    by=options.by,
    metric=options.metric,
    baseline=_baseline(options.baseline),
  )
  found.save(path)
  print(found)
  print(path)
  return 0


def work_directories(arguments: Sequence[str]) -> list[Path]:
  """The given work directories, and those in given folders."""
  folders: list[Path] = []
  for argument in arguments:
    files.check_local(argument, 'a run')
    path = Path(argument)
    inside = [*path.glob('*/config.json'), *path.glob('*/*/config.json')]
    runs = [x.parent for x in inside if (x.parent / 'metrics.jsonl').exists()]
    is_run = (path / 'config.json').exists() or not runs
    folders += [path] if is_run else sorted(runs)
  return folders


def _baseline(texts):
  """The values of --baseline: one, or a tuple for several keys."""
  if texts is None:
    return None
  values = [_value(text) for text in texts]
  return values[0] if len(values) == 1 else tuple(values)


def _value(text):
  """A number, a list or another literal of Python; else the text itself."""
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text
