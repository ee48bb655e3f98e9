"""python -m r1jax."""

import sys

from r1jax import cli

if __name__ == '__main__':
  sys.exit(cli.main(sys.argv[1:]))
