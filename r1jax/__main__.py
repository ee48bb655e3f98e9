"""python -m r1jax STAGE, see cli.py."""

import sys

from r1jax.distributed import signals

if __name__ == '__main__':
  with signals.ending_at_once():  # Imports take seconds.
    from r1jax import cli

    code = cli.main(sys.argv[1:])
  sys.exit(code)
