"""The part of a metrics line that a resumed run repeats bit for bit."""

import fnmatch

TIMINGS = ('seconds', 'tokens_per_s', 'wall', 'time/*')


def without_timings(line):
  """The line without the keys of TIMINGS."""
  kept = {}
  for name, value in line.items():
    if not any(fnmatch.fnmatch(name, pattern) for pattern in TIMINGS):
      kept[name] = value
  return kept
