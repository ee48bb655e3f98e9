"""Parsers of the command line, whose errors are sentences."""

import argparse
import difflib
import math
from collections.abc import Iterable, Sequence
from typing import NoReturn

from r1jax import errors


class CommandParser(argparse.ArgumentParser):
  """The parser of a stage or another command. Raises UserError for arguments
  that it cannot read."""

  def __init__(
    self,
    name: str,
    usage: str,
    description: str | None,
    epilog: str | None = None,
  ) -> None:
    super().__init__(
      prog=f'python -m r1jax {name}',
      usage=f'%(prog)s {usage}',
      description=description,
      epilog=epilog,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
    )
    self.name = name

  def add_number(
    self,
    option: str,
    default: float | None,
    text: str,
    minimum: float,
    maximum: float = math.inf,
    kind: type = int,
    metavar: str = 'N',
    shown: str = '',
  ) -> None:
    """Adds an option that is a number within bounds. Its help is `text` and the
    default, as which `shown` stands if it is given."""

    def read(text: str) -> float:
      bounds = f'of at least {minimum:g}'
      if maximum < math.inf:
        bounds = f'from {minimum:g} to {maximum:.12g}'
      try:
        value = kind(text)
      except ValueError:
        value = math.nan
      if not minimum <= value <= maximum or value == math.inf:
        unit = 'an integer' if kind is int else 'a number'
        raise argparse.ArgumentTypeError(f'{text!r} is not {unit} {bounds}')
      return value

    self.add_argument(
      option,
      metavar=metavar,
      type=read,
      default=default,
      help=f'{text}; default: {shown or default}',
    )

  def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
    """The options, which may stand between the other arguments."""
    options, unknown = self.parse_known_intermixed_args(arguments)
    if unknown:
      near = self.near(unknown[0])
      hint = f'did you mean {near}?' if near else f'see {self.prog} --help'
      raise errors.UserError(
        f'{self.name} cannot read the argument {unknown[0]}: {hint}'
      )
    return options

  def near(self, argument: str, others: Iterable[str] = ()) -> str:
    """The option of this parser, or one of `others`, that is most like an
    argument; '' if none is like it."""
    known = [x for action in self._actions for x in action.option_strings]
    option = argument.partition('=')[0]
    found = difflib.get_close_matches(option, [*known, *others], 1)
    return found[0] if found else ''

  def error(self, message: str) -> NoReturn:
    raise errors.UserError(f'{self.name}: {message}; see {self.prog} --help')
