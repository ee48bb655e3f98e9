"""A rehearsal of an rl run on a pod that is not there: what it needs of each
chip and how long it takes, by TPU's own compiler where libtpu is installed."""

import json
import pathlib

import jax

from r1jax import config as configs
from r1jax.preflight import (
  arithmetic,
  checks,
  chips,
  knobs,
  plan,
  report,
  shapes,
)
from r1jax.preflight.compiler import programs
from r1jax.rl import rl_config

Config = rl_config.Config


def add_options(parser):
  """What preflight is told beside the config of the run."""
  parser.add_argument(
    '--topology',
    metavar='CHIP:SHAPE',
    required=True,
    help=f'like v5e:16x16; chips: {", ".join(chips.CHIPS)}',
  )
  parser.add_argument(
    '--slices',
    metavar='N',
    type=int,
    default=0,
    help='slices joined by the data-centre network; also sets '
    'config.parallel.slices, which is the default',
  )
  parser.add_argument(
    '--length',
    metavar='TOKENS',
    type=int,
    default=0,
    help='of a mean response, for the time; the longest is the default',
  )
  parser.add_argument(
    '--pass-rate',
    metavar='P',
    type=float,
    help='of the base, for the share of groups without a signal; measured '
    'where the model is here and small',
  )
  parser.add_argument(
    '--formula', action='store_true', help='compile nothing: arithmetic alone'
  )
  parser.add_argument('--json', metavar='FILE', help='the report as JSON, too')


def rehearse(config, options):
  """Prints the report; returns whether the run fits and no check is bad."""
  jax.config.update('jax_platforms', 'cpu')
  if options.slices:
    config.parallel.slices = options.slices
  c = configs.build(Config, config)
  pod = chips.pod(options.topology, c.parallel.slices)
  cfg = shapes.computed(c.init, c.compute, pod.chip)
  run = plan.make(c, cfg, pod, options.length)
  costs, reason = arithmetic.costs(run), uncompiled(run, options)
  if reason:
    print(f'by formula alone: {reason}')
  else:
    costs = programs.costs(run, costs, lambda line: print(line, flush=True))
  fits = all(x.fits(pod.chip) for x in costs)
  ways = [] if fits else knobs.find(run, costs)
  print('\n'.join(report.lines(run, costs, ways)), flush=True)
  found = []
  print('\nWhat wastes the hours of a pod:')
  for check in checks.everything(run, options.pass_rate):
    print('\n'.join(report.wrap(check.line)), flush=True)
    found.append(check)
  if options.json:
    text = json.dumps(report.as_json(run, costs, ways, found), indent=2)
    pathlib.Path(options.json).write_text(text + '\n')
  return fits and all(check.good is not False for check in found)


def uncompiled(run, options):
  """Why nothing is compiled; '' where it is."""
  if options.formula:
    return '--formula'
  if not run.pod.chip.tpu:
    return f'there is no compiler for {run.pod.chip.name} here'
  if run.c.parallel.strategy != 'mesh':
    return 'config.parallel.strategy is not mesh'
  if not programs.has_compiler():
    return "libtpu is not installed (pip install 'r1jax[preflight]')"
  return ''
