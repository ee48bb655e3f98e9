"""python -m r1jax STAGE, or r1jax STAGE: see cli.py."""

import os
import sys
from typing import NoReturn

from r1jax.distributed import signals


def open_missing_streams() -> None:
  """Opens /dev/null for each of stdin, stdout and stderr that is closed, as in
  some daemons. Otherwise other files would get their numbers."""
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
      os.set_inheritable(number, True)
  sys.stdin = sys.stdin or open(os.devnull, encoding='utf-8')
  sys.stdout = sys.stdout or open(os.devnull, 'w', encoding='utf-8')
  sys.stderr = sys.stderr or open(os.devnull, 'w', encoding='utf-8')


def main() -> NoReturn:
  """Runs the command of sys.argv and exits with its code."""
  open_missing_streams()
  with signals.ending_at_once():  # Imports take seconds.
    from r1jax import cli

    try:
      code = cli.main(sys.argv[1:])
    finally:
      signals.ignore_at_end()
  sys.exit(code)


if __name__ == '__main__':
  main()
