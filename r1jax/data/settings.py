"""The settings in the name of a source of records: NAME?key=value&key=value."""

import json
from typing import Any

from r1jax import errors


def parse(query: str, source: str) -> dict[str, Any]:
  """{key: value} of 'key=value&…'. Values are JSON, or else texts. `source` is
  the whole name, for errors. Raises UserError."""
  settings: dict[str, Any] = {}
  for key, value in texts(query, source).items():
    try:
      settings[key] = json.loads(value)
    except json.JSONDecodeError:
      settings[key] = value
  return settings


def texts(query: str, source: str) -> dict[str, str]:
  """{key: value} of 'key=value&…' as texts. Raises UserError."""
  found: dict[str, str] = {}
  for pair in query.split('&') if query else []:
    key, equals, value = pair.partition('=')
    if not (key and equals):
      raise errors.UserError(f'{source!r}: {pair!r} is not one key=value')
    if key in found:
      raise errors.UserError(f'{source!r} sets {key!r} twice')
    found[key] = value
  return found
