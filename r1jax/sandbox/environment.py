"""The names that LiveCodeBench and LeetCode provide to programs without an
import."""

import builtins
import functools
import importlib
from collections.abc import Iterable

# Their public names are provided, those of a later module first; and they
# themselves. `typing` is first, since it has aliases of types of collections.
STAR = (
  'typing re datetime collections heapq bisect copy math random statistics '
  'itertools functools operator io sys json string'
).split()
MODULES = [*STAR, 'time', 'array', 'decimal', 'fractions', 'queue', 'cmath']
RECURSION_LIMIT = 50_000


def provided(own_names: Iterable[str]) -> dict:
  """What `inside` needs to provide the names: {name: [module, attribute or
  '']}, without builtins and the names that the program must define itself."""
  names = {key: x for key, x in _names().items() if key not in set(own_names)}
  return dict(names=names, recursion=RECURSION_LIMIT)


@functools.cache
def _names():
  table = {}
  for name in STAR:
    module = importlib.import_module(name)
    for key in getattr(module, '__all__', dir(module)):
      if not key.startswith('_') and not hasattr(builtins, key):
        table[key] = [name, key]
  for name in MODULES:
    table[name] = [name, '']
  return table
