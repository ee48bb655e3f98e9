"""The settings in the name of a source of records: NAME?key=value&key=value."""

import json
from typing import Any

from r1jax import errors


def parse(query: str, source: str) -> dict[str, Any]:
  """{key: value} of 'key=value&…'. Values are JSON, or else texts. `source` is
  the whole name, for errors. Raises UserError."""
  settings = {}
  for pair in query.split('&') if query else []:
    key, equals, value = pair.partition('=')
    if not (key and equals) or key in settings:
      raise errors.UserError(f'{source!r}: {pair!r} is not one key=value')
    try:
      settings[key] = json.loads(value)
    except json.JSONDecodeError:
      settings[key] = value
  return settings
