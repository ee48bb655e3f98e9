"""The user's own functions and records, by the names that config keys hold:
'FILE.py:NAME', 'package.module:NAME', or 'python:NAME@DIGEST' for what was
given in Python."""

from r1jax.user_code.calls import check_call, describe, failure
from r1jax.user_code.loading import load, lookup
from r1jax.user_code.modules import digests, refresh
from r1jax.user_code.object_names import (
  PYTHON,
  is_name,
  name_of,
  needs_name,
  short_name,
  shown_name,
  without_digest,
)

__all__ = [
  'PYTHON',
  'check_call',
  'describe',
  'digests',
  'failure',
  'is_name',
  'load',
  'lookup',
  'name_of',
  'needs_name',
  'refresh',
  'short_name',
  'shown_name',
  'without_digest',
]
