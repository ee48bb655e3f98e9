"""Rewards for the length of a response: by tokens, which the caller counts, and
by characters, as a verifier that is usable alone."""

import numpy as np

ROOM = 4_000  # characters of a response that cost nothing, unless a record says


def soft_overlong(length_N, max_len, cache):
  """DAPO's soft penalty for long responses, in tokens.

  0 up to L_max − L_cache, then ((L_max − L_cache) − L) / L_cache, −1 beyond
  L_max.
  """
  assert 0 < cache <= max_len
  penalty_N = (max_len - cache - np.asarray(length_N)) / cache
  return np.clip(penalty_N, -1, 0).astype(np.float32)


def length_penalty(records, texts):
  """1 up to the record's `room` of characters (ROOM without one), falling
  evenly to 0 at twice as many."""
  rooms = [record.get('room', ROOM) for record in records]
  share_N = np.array([len(t) / room for t, room in zip(texts, rooms)])
  return np.clip(2 - share_N, 0, 1).astype(np.float32)
