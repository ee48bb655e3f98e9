"""python -m r1jax."""

import sys

from r1jax import main

if __name__ == '__main__':
  sys.exit(main.main(sys.argv[1:]))
