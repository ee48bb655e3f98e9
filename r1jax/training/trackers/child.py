"""The process of a tracker: reads calls from stdin, a line of JSON each, and
answers each with a line."""

import importlib
import json
import os
import sys
import threading
import time

from r1jax import user_code
from r1jax.training.trackers.tracked_run import TrackedRun, Tracker

MODULES = dict(wandb='wandb_run:Wandb', trackio='trackio_run:Trackio')
ALONE_SECONDS = 30.0  # that the process goes on after that of the run


def main() -> int:
  """Answers until a call fails or the run ends; the exit code."""
  calls, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), 'w')
  # A library that asks a question finds no answer; what it prints is in the log.
  with open(os.devnull) as nothing:
    os.dup2(nothing.fileno(), 0)
  os.dup2(2, 1)
  parent = os.getppid()
  threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
  tracker, method = None, ''
  for line in calls:
    message, problem = json.loads(line), ''
    try:
      if tracker is None:
        tracker = open_tracker(**message)
      else:
        method = message['method']
        _call(tracker, message)
    except BaseException as error:
      problem = f'{type(error).__name__}: {error}'
      print(problem, file=sys.stderr, flush=True)
    answers.write(json.dumps(dict(error=problem)) + '\n')
    answers.flush()
    if problem:
      return 1
    if method == 'close':
      return 0
  if tracker is not None:  # The run was killed.
    tracker.close()
  return 1


def open_tracker(name: str, settings: dict, run: dict) -> Tracker:
  """The tracker of a name in config.trackers."""
  if name in MODULES:
    module, _, cls = MODULES[name].partition(':')
    package = importlib.import_module(f'r1jax.training.trackers.{module}')
    make = vars(package)[cls]
  else:
    make = user_code.load(name, 'config.trackers')
  return make(TrackedRun(**run), **settings)


def _call(tracker, message):
  if message['method'] == 'write':
    tracker.write(message['step'], message['value'])
  elif message['method'] == 'samples':
    tracker.samples(message['step'], message['value'])
  else:
    tracker.close()


def _end_with(parent):
  """Ends this process a while after that of the run, which cannot kill it then."""
  while os.getppid() == parent:
    time.sleep(2)
  time.sleep(ALONE_SECONDS)
  os._exit(1)


if __name__ == '__main__':
  # At once: a library may wait at exit for a server.
  code = main()
  sys.stderr.flush()
  os._exit(code)
