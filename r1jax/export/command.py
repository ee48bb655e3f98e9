"""Writes a run's checkpoint, or another model, as a Hugging Face directory or a
GGUF file, with its prompts, sampling settings and a model card."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from r1jax import errors, files
from r1jax.command_errors import CommandParser
from r1jax.export import folder, source
from r1jax.export.source import Source

UNITS = dict(KB=10**3, MB=10**6, GB=10**9)
USAGE = """\
RUN [--step best] [--dtype bfloat16] [--format hf|gguf] [--output DIR]"""
EPILOG = """\
RUN may also be RUN@STEP, the directory of a model, a GGUF file, or a name of
the hub. The default of DIR is RUN/export/FORMAT, or FORMAT-step-N with --step;
an earlier export there is replaced."""


def make_parser() -> CommandParser:
  """The options of an export."""
  parser = CommandParser('export', USAGE, __doc__, EPILOG)
  add = parser.add_argument
  add('run', metavar='RUN', help='the work directory of a run')
  steps = 'best (by config.eval.best), last, or a number; default: the result'
  add('--step', metavar='STEP', default='', help=f'the checkpoint: {steps}')
  dtypes = 'auto', *folder.DTYPE_NAMES
  add('--dtype', choices=dtypes, default='auto', help='of the weights')
  add('--format', choices=('hf', 'gguf'), default='hf', help='default: hf')
  add('--output', metavar='DIR', default='', help='the directory to write')
  add(
    '--shard-size',
    metavar='SIZE',
    default='',
    help='of one file of weights, such as 5GB (the default of hf)',
  )
  return parser


def run(arguments: Sequence[str]) -> int:
  """Writes the model that the arguments describe."""
  options = make_parser().parse(arguments)
  part_bytes = _bytes(options.shard_size)
  if options.output:
    files.check_local(options.output, 'the directory of --output')
    folder.check(Path(options.output))  # before the model is read
  found = source.read(options.run, options.step)
  output = _output(options, found)
  dtype = options.dtype
  if dtype == 'auto':
    is_bfloat16 = found.policy.cfg.saved_dtype == 'bfloat16'
    dtype = 'bfloat16' if is_bfloat16 else 'float32'
  written = folder.write(found, output, options.format, dtype, part_bytes)
  size = sum(path.stat().st_size for path in written)
  print(f'{output}: {dtype}, {size / 1e6:,.3g} MB')
  for path in written:
    print(f'  {path.name}')
  return 0


def _output(options: argparse.Namespace, found: Source) -> Path:
  """The directory to write."""
  if options.output:
    return Path(options.output)
  if found.run is None:
    raise errors.UserError(
      f'{options.run} is not the work directory of a run: say where to write '
      'by --output DIR'
    )
  name = options.format
  is_step = options.step or '@' in options.run
  if is_step and found.step is not None:
    name += f'-step-{found.step}'
  return found.run.path / 'export' / name


def _bytes(text: str) -> int:
  """The number of bytes of a size such as 500MB; 0 for ''."""
  match = re.fullmatch(r'(\d+(?:\.\d+)?) ?(KB|MB|GB)', text.strip().upper())
  if not text:
    return 0
  size = int(float(match[1]) * UNITS[match[2]]) if match else 0
  if not size:
    raise errors.UserError(
      f'--shard-size is {text!r}: write a number with its unit, such as 500MB '
      'or 5GB'
    )
  return size
