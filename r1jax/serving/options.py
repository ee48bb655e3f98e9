"""The options that chat, sample and serve share."""

import argparse
import secrets

from r1jax.command_errors import CommandParser
from r1jax.config import MAX_SEED

MODEL = """\
MODEL is a Hugging Face directory, a GGUF file, a name of the hub (ORG/NAME), or
a run: runs/zero is its result, runs/zero@120 a checkpoint, runs/zero@best the
one with the highest held-out score, runs/zero@last the newest."""


def parser_of(name: str, usage: str, summary: str) -> CommandParser:
  """The parser of a command, with the options that concern the model."""
  parser = CommandParser(name, usage, summary, MODEL)
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
  parser: CommandParser, temperature: float, top_p: float, default_tokens: str
) -> None:
  """Adds the options of a response, with their defaults."""
  add_number = parser.add_number
  heat = '0: the most probable tokens'
  add_number('--temperature', temperature, heat, 0, kind=float, metavar='X')
  mass = 'probability mass of the nucleus'
  add_number('--top-p', top_p, mass, 1e-6, 1, kind=float, metavar='X')
  add_number('--top-k', 0, 'number of most probable ids', 0, shown='0, all')
  add_number('--max-tokens', None, 'of a response', 1, shown=default_tokens)
  same = 'the same seed gives the same response'
  add_number('--seed', None, same, 0, MAX_SEED, shown='a new one')
  parser.add_argument(
    '--stop',
    metavar='TEXT',
    type=_stop_text,
    action='append',
    default=[],
    help='a text that ends a response; may be repeated',
  )


def add_max_len(parser: CommandParser, default: int) -> None:
  memory = "tokens of prompt and response that have memory, up to the model's"
  parser.add_number('--max-len', default, memory, 2)


def new_seed() -> int:
  """A seed that nobody has chosen."""
  return secrets.randbelow(2**31)


def _stop_text(text: str) -> str:
  if not text:
    raise argparse.ArgumentTypeError('an empty text would end every response')
  return text
