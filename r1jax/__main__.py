"""python -m r1jax STAGE, see cli.py."""

import sys

from r1jax import cli

if __name__ == '__main__':
  sys.exit(cli.main(sys.argv[1:]))
