"""Writes report.html about a work directory: what was run, its curves, and the
responses to its prompts."""

from collections.abc import Sequence
from pathlib import Path

from r1jax import errors, files
from r1jax.api import recomputed_tokens
from r1jax.command_errors import CommandParser
from r1jax.stages import report

EPILOG = """\
--tokens recomputes the rollout of an update from the newest checkpoint before
it, which takes as long as the updates in between. Its tokens are kept in
DIR/tokens.jsonl."""


def make_parser() -> CommandParser:
  usage = '--workdir DIR [--tokens STEP …]'
  parser = CommandParser('report', usage, __doc__, EPILOG)
  add = parser.add_argument
  add('folder', metavar='DIR', nargs='?', help='the same as --workdir')
  add('--workdir', metavar='DIR', help='folder of the run')
  add(
    '--tokens',
    metavar='STEP',
    type=int,
    action='append',
    default=[],
    help='shows ratio, entropy and log-probability of the tokens of a step',
  )
  return parser


def run(arguments: Sequence[str]) -> int:
  """Writes the page and prints its path."""
  options = make_parser().parse(arguments)
  folder = options.workdir or options.folder
  if not folder:
    raise errors.UserError('report needs --workdir DIR, the folder of a run')
  if options.workdir and options.folder:
    raise errors.UserError(
      f'report has two folders, {options.workdir} and {options.folder}: give one'
    )
  files.check_local(folder, 'the work directory')
  for step in options.tokens:
    recomputed_tokens.add(Path(folder), step)
  print(report.write(folder))
  return 0
