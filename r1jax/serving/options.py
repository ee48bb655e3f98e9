"""The options that chat, sample and serve share."""

import argparse
import secrets
from collections.abc import Callable

from r1jax.config import MAX_SEED

MODEL = """\
MODEL is a Hugging Face directory, a GGUF file, a name of the hub (ORG/NAME), or
a run: runs/zero is its result, runs/zero@120 a checkpoint, runs/zero@best the
one with the highest held-out score, runs/zero@last the newest."""


def parser_of(name: str, usage: str, summary: str) -> argparse.ArgumentParser:
  """The parser of a command, with the options that concern the model."""
  parser = argparse.ArgumentParser(
    prog=f'python -m r1jax {name}',
    usage=f'%(prog)s {usage}',
    description=summary,
    epilog=MODEL,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  add = parser.add_argument
  add('model', metavar='MODEL', help='see below')
  add(
    '--template',
    metavar='T',
    help="chat, r1_zero, plain, or a text with '{question}'; default: that of "
    'the run, or chat, or r1_zero for a model without a chat template',
  )
  add('--prefill', metavar='TEXT', help='start of every response, e.g. <think>')
  add(
    '--dtype',
    choices=('float32', 'bfloat16'),
    default='float32',
    help='of matrix products; default: float32',
  )
  return parser


def add_sampling(
  parser: argparse.ArgumentParser,
  temperature: float,
  top_p: float,
  default_tokens: str,
) -> None:
  """Adds the options of a response, with their defaults."""
  add = parser.add_argument
  add(
    '--temperature',
    metavar='X',
    type=number(float, 0),
    default=temperature,
    help=f'0: the most probable tokens; default: {temperature}',
  )
  add(
    '--top-p',
    metavar='X',
    type=number(float, 1e-6, 1),
    default=top_p,
    help=f'probability mass of the nucleus; default: {top_p}',
  )
  add(
    '--top-k',
    metavar='N',
    type=number(int, 0),
    default=0,
    help='number of most probable ids; default: 0, all',
  )
  add(
    '--max-tokens',
    metavar='N',
    type=number(int, 1),
    default=None,
    help=f'of a response; default: {default_tokens}',
  )
  add(
    '--seed',
    metavar='N',
    type=number(int, 0, MAX_SEED),
    default=None,
    help='the same seed gives the same response; default: a new one',
  )
  add(
    '--stop',
    metavar='TEXT',
    action='append',
    default=[],
    help='a text that ends a response; may be repeated',
  )


def add_max_len(parser: argparse.ArgumentParser, default: int) -> None:
  parser.add_argument(
    '--max-len',
    metavar='N',
    type=number(int, 2),
    default=default,
    help='tokens of prompt and response, for which there is memory; at most '
    f"the model's; default: {default}",
  )


def new_seed() -> int:
  """A seed that nobody has chosen."""
  return secrets.randbelow(2**31)


def number(
  kind: Callable, minimum: float, maximum: float | None = None
) -> Callable:
  """The type of an option that is a number within bounds."""

  def read(text: str):
    wanted = f'a number of at least {minimum}'
    if maximum is not None:
      wanted += f' and at most {maximum}'
    try:
      value = kind(text)
    except ValueError as error:
      raise argparse.ArgumentTypeError(f'{text!r} must be {wanted}') from error
    if not value >= minimum or (maximum is not None and value > maximum):
      raise argparse.ArgumentTypeError(f'{text} must be {wanted}')
    if value == float('inf'):
      raise argparse.ArgumentTypeError(f'{text} must be finite')
    return value

  return read
