"""Runs a stage with each setting of a grid and several seeds, and compares the
runs on one page."""

from collections.abc import Sequence

from r1jax import command_errors, config
from r1jax.ablation import compare, grid, run_files, sweep
from r1jax.command_errors import CommandParser

USAGE = """\
--config FILE --workdir DIR
         [--grid 'KEY=[value,value]' …] [--seeds N] [--jobs N] [--stage STAGE]
         [--config.key=value …]"""
EPILOG = """\
The page is DIR/sweep.html, a run with its log DIR/SETTING/seed-N. The same
command continues a sweep; it may have more values or seeds."""


def make_parser() -> CommandParser:
  """The options of a sweep. Overrides (--config.key=value) remain unparsed."""
  parser = CommandParser('sweep', USAGE, __doc__, EPILOG)
  add = parser.add_argument
  add('--config', metavar='FILE', required=True, help='a config file')
  add('--workdir', metavar='DIR', required=True, help='folder of all runs')
  add(
    '--grid',
    metavar='KEY=[value,value]',
    action='append',
    default=[],
    help='values of a key of the config; several give all combinations',
  )
  seeds = 'runs of each setting, with the seeds config.seed, config.seed + 1, …'
  parser.add_number('--seeds', 3, seeds, 1)
  parser.add_number('--jobs', 1, 'runs at a time', 1)
  stages = f'one of {", ".join(compare.STAGES)}; default: rl'
  add('--stage', metavar='STAGE', default='rl', help=stages)
  return parser


def run(arguments: Sequence[str]) -> int:
  """Runs the sweep that the arguments describe. The exit code is 1 unless
  all runs are finished."""
  parser = make_parser()
  options, overrides = parser.parse_known_args(arguments)
  command_errors.check_arguments('sweep', parser, overrides, ())
  settings = config.override(config.load_file(options.config), overrides)
  comparison = sweep.sweep(
    settings,
    options.workdir,
    grid.parse(options.grid),
    options.seeds,
    options.jobs,
    options.stage,
  )
  print(comparison)
  folders = [row['workdir'] for row in comparison.runs]
  are_finished = all(run_files.is_finished(folder) for folder in folders)
  return 0 if are_finished and not comparison.left_out else 1
