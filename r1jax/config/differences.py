"""Where two configs, or other nested dicts, differ."""

import json
from collections.abc import Mapping
from typing import Any


def changes(a: Mapping, b: Mapping) -> dict[str, tuple[Any, Any]]:
  """{dotted key: (value in a, value in b)} where two nested dicts differ."""
  old, new, found = flatten(a), flatten(b), {}
  for key in old | new:
    pair = old.get(key, 'absent'), new.get(key, 'absent')
    is_same = pair[0] == pair[1] or {} in pair  # entries of a dict have keys
    if not is_same:
      found[key] = pair
  return found


def difference(a: Mapping, b: Mapping) -> list[str]:
  """Lines 'key: old -> new' where two nested dicts differ."""
  pairs = changes(a, b).items()
  return [f'{key}: {old!r} -> {new!r}' for key, (old, new) in pairs]


def flatten(tree: Mapping, prefix: str = '') -> dict[str, Any]:
  """{dotted key: value}, with lists for tuples, as in JSON."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict) and value:
      flat.update(flatten(value, f'{prefix}{key}.'))
    else:
      flat[prefix + key] = json.loads(json.dumps(value, default=repr))
  return flat
