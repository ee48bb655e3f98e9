"""The command line: python -m r1jax STAGE --config FILE --workdir DIR."""

import argparse
import ast
import dataclasses
import difflib
import importlib
import os
import pathlib
import textwrap
from collections.abc import Sequence
from types import ModuleType

from r1jax import config, errors
from r1jax.distributed import watchdog

# jax is imported after --help is handled, since its import takes seconds.

NAMES = 'sft rl reject reward_model evaluate verify preflight report'.split()
STAGES = {name: f'r1jax.stages.{name}' for name in NAMES}
STAGES_FOLDER = pathlib.Path(__file__).parent / 'stages'
CACHE = '~/.cache/r1jax/xla'
USAGE = """\
usage: python -m r1jax STAGE --config FILE --workdir DIR [--config.key=value …]
       python -m r1jax STAGE --help        the keys of a stage
"""


def main(arguments: Sequence[str]) -> int:
  """Runs a stage; its exit code. Expected errors are printed as one line."""
  if not arguments or arguments[0] in ('-h', '--help'):
    print(overview())
    return 0
  try:
    return run(arguments[0], arguments[1:])
  except BaseException as error:
    code, sentence = errors.exit_status(error)
    if not sentence:
      raise
    watchdog.print_error(sentence)
    return code


def run(name: str, arguments: Sequence[str]) -> int:
  """Runs the stage `name` with its config file and overrides; its exit code."""
  if name not in STAGES:
    near = difflib.get_close_matches(name, STAGES, 1)
    hint = f'did you mean {near[0]}?' if near else 'see --help'
    raise errors.UserError(f'there is no stage {name}: {hint}')
  stage = importlib.import_module(STAGES[name])
  options, overrides = make_parser(name, stage).parse_known_args(arguments)
  if options.config:
    settings = config.load_file(options.config)
  elif dataclasses.fields(stage.Config):
    raise errors.UserError(f'{name} needs --config FILE, see experiments/')
  else:
    settings = config.defaults(stage.Config)
  settings = config.override(settings, overrides)
  if name == 'preflight':  # no work directory and no other hosts
    return 0 if stage.rehearse(settings, options) else 1
  from r1jax.distributed import hosts

  with hosts.connected(options.workdir):
    standard = config.defaults(stage.Config).to_dict()
    for line in config.difference(standard, settings.to_dict()):
      print(f'config.{line}', flush=True)
    compilation_cache()
    stage.run(settings, options.workdir)
  return 0


def overview() -> str:
  """Help: the first sentence of each stage's docstring."""
  width, lines = max(map(len, NAMES)), [USAGE, 'stages:']
  for name in NAMES:
    source = (STAGES_FOLDER / f'{name}.py').read_text()
    text = ' '.join((ast.get_docstring(ast.parse(source)) or '').split())
    sentence = text.partition('. ')[0].removesuffix('.')
    text, indent = f'  {name:{width}}  {sentence}', ' ' * (width + 4)
    lines.append(textwrap.fill(text, 80, subsequent_indent=indent))
  return '\n'.join(lines)


def make_parser(name: str, stage: ModuleType) -> argparse.ArgumentParser:
  """The parser of a stage. Overrides (--config.key=value) remain unparsed."""
  keys, is_preflight = config.describe(stage.Config), name == 'preflight'
  required = '--topology CHIP:SHAPE' if is_preflight else '--workdir DIR'
  parser = argparse.ArgumentParser(
    prog=f'python -m r1jax {name}',
    usage=f'%(prog)s {required} [--config FILE] [--config.key=value …]',
    description=stage.__doc__,
    epilog=f'keys:\n{keys}' if keys else None,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  add = parser.add_argument
  add('--config', metavar='FILE', help='a config file')
  if is_preflight:
    stage.add_options(parser)
  else:
    add('--workdir', metavar='DIR', required=True, help='folder of the run')
  return parser


def compilation_cache() -> None:
  """Caches compiled programs in $R1JAX_CACHE or CACHE."""
  import jax

  folder = os.environ.get('R1JAX_CACHE') or os.path.expanduser(CACHE)
  jax.config.update('jax_compilation_cache_dir', folder)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
