"""Runs a stage that pauses at a step, so that a test can signal or kill the
process there, however fast it is.

  python tests/toy_pause.py STEP FOLDER STAGE ARGUMENTS

When progress has reached STEP, the process writes FOLDER/paused-HOST and waits
until FOLDER/continue exists.
"""

import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from r1jax import cli  # noqa: E402
from r1jax.training import progress  # noqa: E402


def command(step, folder, arguments):
  """The arguments of python for the stage of ['-m', 'r1jax', STAGE, …]."""
  folder.mkdir()
  return [__file__, str(step), folder, *arguments[2:]]


def main(step, folder, *arguments):
  show, folder = progress.Progress.show, pathlib.Path(folder)
  paused = folder / f'paused-{os.environ.get("R1JAX_HOST", 0)}'

  def show_and_pause(self, now, *args):
    show(self, now, *args)
    while now >= int(step) and not (folder / 'continue').exists():
      paused.touch()
      time.sleep(0.01)

  progress.Progress.show = show_and_pause
  return cli.main(arguments)


if __name__ == '__main__':
  sys.exit(main(*sys.argv[1:]))
