"""The command line: python -m r1jax STAGE --config FILE --workdir DIR."""

import argparse
import ast
import dataclasses
import difflib
import errno
import importlib
import importlib.util
import os
import pathlib
import textwrap

from r1jax import config, errors
from r1jax.distributed import watchdog

STAGES = {
  'sft': 'r1jax.stages.sft',
  'rl': 'r1jax.stages.rl',
  'reject': 'r1jax.stages.reject',
  'reward_model': 'r1jax.stages.reward_model',
  'evaluate': 'r1jax.stages.evaluate',
  'verify': 'r1jax.stages.verify',
  'preflight': 'r1jax.stages.preflight',
  'report': 'r1jax.stages.report',
}
# A disk, a quota, a limit on the size of files.
FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
USAGE = """\
usage: python -m r1jax STAGE --config FILE --workdir DIR [--config.key=value …]
       python -m r1jax STAGE --help        the keys of a stage
"""


def main(arguments):
  """Runs one stage; what ends it with a sentence has its own exit code."""
  if not arguments or arguments[0] in ('-h', '--help'):
    print(overview())
    return 0
  try:
    return run(*arguments)
  except BaseException as error:
    code, sentence = exit_status(error)
    if not sentence:
      raise
    watchdog.print_error(sentence)
    return code


def exit_status(error):
  """(exit code, the sentence) of what ended a run; None for what is no fault
  of the user and needs its traceback. Who restarts runs knows these codes."""
  if isinstance(error, errors.UserError):
    return 2, str(error)
  if isinstance(error, OSError) and error.errno in FULL:
    return 2, (
      f'there is no room to write {error.filename or "a file"} (disk full?): '
      'make some, and the same command goes on from the last checkpoint'
    )
  if isinstance(error, errors.Terminated):
    return watchdog.TERMINATED, str(error)
  if isinstance(error, KeyboardInterrupt):
    return 130, 'interrupted; the same command goes on from the last checkpoint'
  return 1, None


def run(name, *arguments):
  """Calls the stage with its config, file and overrides applied."""
  if name not in STAGES:
    near = difflib.get_close_matches(name, STAGES, 1)
    guess = f'did you mean {near[0]}?' if near else 'see --help'
    raise errors.UserError(f'there is no stage {name}: {guess}')
  stage = importlib.import_module(STAGES[name])
  options, overrides = parser(name, stage).parse_known_args(arguments)
  if options.config:
    settings = config.load_file(options.config)
  elif dataclasses.fields(stage.Config):
    raise errors.UserError(f'{name} needs --config FILE, see experiments/')
  else:
    settings = config.defaults(stage.Config)
  settings = config.override(settings, overrides)
  if name == 'preflight':  # It runs nothing: no work directory, no other hosts.
    return 0 if stage.rehearse(settings, options) else 1
  from r1jax.distributed import (
    hosts,  # Here, so that --help need not wait for jax.
  )

  with hosts.connected(options.workdir, exit_status):
    for line in changed_keys(stage, settings):
      print(line, flush=True)
    compilation_cache()
    stage.run(settings, options.workdir)
  return 0


def changed_keys(stage, settings):
  """What the run changes; the defaults are the paper's where it states them."""
  changed = config.difference(
    config.defaults(stage.Config).to_dict(), settings.to_dict()
  )
  return [f'config.{line}' for line in changed]


def overview():
  """The stages, each with the first sentence of its module."""
  width = max(map(len, STAGES))
  lines = [
    textwrap.fill(
      summary(path),
      width=80,
      initial_indent=f'  {name:{width}}  ',
      subsequent_indent=' ' * (width + 4),
    )
    for name, path in STAGES.items()
  ]
  return '\n'.join([USAGE, 'stages:', *lines])


def summary(path):
  """The first sentence of a module's docstring, read without importing it."""
  source = pathlib.Path(importlib.util.find_spec(path).origin).read_text()
  text = ' '.join(ast.get_docstring(ast.parse(source)).split())
  return text.partition('. ')[0].removesuffix('.')


def parser(name, stage):
  """The arguments of a stage; what it does not know are overrides."""
  keys = config.describe(stage.Config)
  rehearsal = name == 'preflight'
  place = '--topology CHIP:SHAPE' if rehearsal else '--workdir DIR'
  parser = argparse.ArgumentParser(
    prog=f'python -m r1jax {name}',
    usage=f'%(prog)s {place} [--config FILE] [--config.key=value …]',
    description=stage.__doc__,
    epilog=f'keys:\n{keys}' if keys else None,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument('--config', metavar='FILE', help='an experiment')
  if rehearsal:
    stage.add_options(parser)
  else:
    parser.add_argument(
      '--workdir', metavar='DIR', required=True, help='where the run lives'
    )
  return parser


def compilation_cache():
  """Keeps compiled programs in $R1JAX_CACHE or ~/.cache/r1jax/xla."""
  import jax

  home = os.path.expanduser('~/.cache/r1jax/xla')
  folder = os.environ.get('R1JAX_CACHE') or home
  jax.config.update('jax_compilation_cache_dir', folder)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
