"""The command line: python -m r1jax STAGE --config FILE --workdir DIR."""

import argparse
import ast
import contextlib
import difflib
import importlib
import importlib.metadata
import io
import os
import pathlib
import platform
import sys
import textwrap
from collections.abc import Sequence
from types import ModuleType

from ml_collections import ConfigDict

import r1jax
from r1jax import command_errors, config, errors
from r1jax.command_errors import CommandParser
from r1jax.distributed import signals, watchdog
from r1jax.training.config_changes import Change

# jax is imported after --help is handled, since its import takes seconds.

NAMES = 'sft rl reject reward_model evaluate verify preflight'.split()
STAGES = {name: f'r1jax.stages.{name}' for name in NAMES}
# Other commands: modules whose run(arguments) returns an exit code.
COMMANDS = {
  'report': 'r1jax.api.report_command',
  'compare': 'r1jax.ablation.compare_command',
  'sweep': 'r1jax.ablation.command',
  'chat': 'r1jax.serving.chat',
  'sample': 'r1jax.serving.sample',
  'export': 'r1jax.export.command',
  'serve': 'r1jax.serving.serve',
}
PACKAGE = pathlib.Path(__file__).parent
USAGE = """\
usage: python -m r1jax STAGE --config FILE --workdir DIR [--config.key=value …]
       python -m r1jax STAGE --help        the keys of a stage
       python -m r1jax --version
"""

LEGEND = """\
keys: those with * may differ when the command is repeated; in sft, rl and
reward_model --change can change all others but those with !"""
CHANGE = 'continue from the newest checkpoint with another value'
ACCEPT_CODE = 'continue although the source of your own functions has changed'
ACCEPT_INPUTS = 'continue although models or records have other content now'


def main(arguments: Sequence[str]) -> int:
  """Runs a stage; its exit code. Expected errors are printed as one line."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):  # ASCII has no Δ
      stream.reconfigure(errors='backslashreplace')
  try:
    if not arguments or arguments[0] in ('-h', '--help'):
      print(overview(), flush=True)
      return 0
    if arguments[0] in ('-V', '--version'):
      print(version(), flush=True)
      return 0
    return run_to_end(arguments)
  except BaseException as error:
    code, sentence = errors.exit_status(error)
    if not sentence:
      raise
    watchdog.print_error(sentence)
    discard_output()
    return code


def version() -> str:
  """The versions of r1jax, jax and Python."""
  try:
    jax = f'jax {importlib.metadata.version("jax")}'
  except importlib.metadata.PackageNotFoundError:
    jax = 'no jax'
  python = platform.python_version()
  return f'r1jax {r1jax.__version__} ({jax}, Python {python})'


def run_to_end(arguments: Sequence[str]) -> int:
  """`run`, or the help of a stage, with all of its output written."""
  try:
    code = run(arguments[0], arguments[1:])
  except SystemExit:  # argparse has printed the help
    print(end='', flush=True)
    raise
  print(end='', flush=True)
  return code


def discard_output() -> None:
  """Sends the rest of an output that cannot be written to nowhere, so that
  Python's exit does not fail to write it."""
  with open(os.devnull, 'wb') as null:
    for file in [*errors.closed_outputs(), *errors.full_outputs().values()]:
      os.dup2(null.fileno(), file)


def run(name: str, arguments: Sequence[str]) -> int:
  """Runs the stage `name` with its config file and overrides; its exit code."""
  arguments = config.joined(arguments)
  if name in COMMANDS:
    return importlib.import_module(COMMANDS[name]).run(arguments)
  stage = load_stage(name)
  parser = make_parser(name, stage)
  options, overrides = parser.parse_known_args(arguments)
  settings = load_settings(name, stage, parser, options, overrides)
  if name == 'preflight':  # no work directory and no other hosts
    return 0 if stage.rehearse(settings, options) else 1
  if name == 'verify':
    stage.apply_options(settings, options)
    if not options.workdir:
      run_verify(stage, settings)
      return 0
  run_stage(stage, settings, options.workdir, make_change(settings, options))
  return 0


def load_settings(
  name: str,
  stage: ModuleType,
  parser: CommandParser,
  options: argparse.Namespace,
  overrides: Sequence[str],
) -> ConfigDict:
  """The settings of a command: of its config file, or the defaults of a stage
  that needs none, changed by the arguments that the parser has left."""
  keys = [key for key, _, _ in config.named_options(stage.Config())]
  command_errors.check_arguments(name, parser, overrides, keys)
  if options.config:
    settings = config.load_file(options.config)
    command_errors.check_file(name, options.config, settings, STAGES)
  elif keys and name != 'verify':
    raise command_errors.without_config(name)
  else:
    settings = config.defaults(stage.Config)
  if name not in ('preflight', 'verify') and not options.workdir:
    raise errors.UserError(f'{name} needs --workdir DIR, the folder of the run')
  try:
    return config.override(settings, overrides)
  except config.UnknownKey as error:
    raise command_errors.of_another_stage(error, name, STAGES) from error


def load_stage(name: str) -> ModuleType:
  """The module of a stage. Raises UserError for an unknown name."""
  if name not in STAGES:
    near = difflib.get_close_matches(name, [*STAGES, *COMMANDS], 1)
    hint = f'did you mean {near[0]}?' if near else 'see --help'
    if name.startswith('-'):
      hint = 'it stands first, as in r1jax rl --config FILE --workdir DIR'
    raise errors.UserError(f'there is no stage or command {name}: {hint}')
  return importlib.import_module(STAGES[name])


def make_change(
  settings: ConfigDict, options: argparse.Namespace
) -> Change | None:
  """What --change, --accept-code and --accept-inputs ask for; None in a stage
  without them."""
  if 'change' not in options:
    return None
  texts = []
  for text in options.change:
    key, equals, value = text.partition('=')
    if not equals:
      raise errors.UserError(f'cannot read --change {text}: write KEY=VALUE')
    texts.append(f'{key.strip().removeprefix("config.")}={value}')
  values = config.parse(settings, texts)
  return Change(values, options.accept_code, options.accept_inputs)


def run_stage(
  stage: ModuleType,
  settings: ConfigDict,
  workdir: str | pathlib.Path,
  change: Change | None = None,
) -> None:
  """Runs a stage in this process: with its hosts, the watchdog and the cache of
  compiled programs. Prints the keys that are not the defaults."""
  from r1jax.distributed import hosts, programs
  from r1jax.training import closing, run_directory

  with contextlib.ExitStack() as stack:
    stack.enter_context(hosts.connected(workdir))
    stack.enter_context(run_directory.occupied(pathlib.Path(workdir)))
    standard = config.defaults(stage.Config).to_dict()
    for line in config.difference(standard, settings.to_dict()):
      print(f'config.{line}', flush=True)
    programs.compilation_cache()
    try:
      if change is None:
        stage.run(settings, workdir)
      else:
        stage.run(settings, workdir, change)
    except KeyboardInterrupt as error:
      kept = closing.kept_after_interrupt(pathlib.Path(workdir), settings)
      raise KeyboardInterrupt(kept) from error
    finally:
      signals.ignore_at_end()


def run_verify(stage: ModuleType, settings: ConfigDict) -> None:
  """Runs verify without a work directory."""
  from r1jax.distributed import hosts

  with hosts.connected(stage.output_path(settings).parent):
    stage.run_beside(settings)


def overview() -> str:
  """Help: the first sentence of the docstring of each stage and command."""
  modules = STAGES | COMMANDS
  width, lines = max(map(len, modules)), [USAGE, 'stages and commands:']
  for name, module in modules.items():
    path = PACKAGE.joinpath(*module.split('.')[1:]).with_suffix('.py')
    text = ast.get_docstring(ast.parse(path.read_bytes())) or ''
    text = ' '.join(text.split())
    sentence = text.partition('. ')[0].removesuffix('.')
    text, indent = f'  {name:{width}}  {sentence}', ' ' * (width + 4)
    lines.append(textwrap.fill(text, 80, subsequent_indent=indent))
  return '\n'.join(lines)


def make_parser(name: str, stage: ModuleType) -> CommandParser:
  """The parser of a stage. Overrides (--config.key=value) remain unparsed."""
  keys, is_preflight = config.describe(stage.Config), name == 'preflight'
  has_options = name in ('preflight', 'verify')
  required = '--topology CHIP:SHAPE' if is_preflight else '--workdir DIR'
  config_file = '--config FILE' if keys else '[--config FILE]'
  if name == 'verify':
    config_file, required = '--records FILE', '--responses FILE'
  parser = CommandParser(
    name,
    f'{config_file} {required} [--config.key=value …]',
    stage.__doc__,
    f'{LEGEND}\n{keys}' if keys else None,
  )
  add = parser.add_argument
  add('--config', metavar='FILE', help='a config file')
  if has_options:
    stage.add_options(parser)
  else:
    add('--workdir', metavar='DIR', help='folder of the run')
  if keys and not is_preflight:
    add(
      '--change', metavar='KEY=VALUE', action='append', default=[], help=CHANGE
    )
    add('--accept-code', action='store_true', help=ACCEPT_CODE)
    add('--accept-inputs', action='store_true', help=ACCEPT_INPUTS)
  return parser
