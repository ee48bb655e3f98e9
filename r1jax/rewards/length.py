"""Rewards that count tokens: the caller passes lengths, not texts."""

import numpy as np


def soft_overlong(length_N, max_len, cache):
  """DAPO's soft penalty for long responses, in tokens.

  0 up to L_max − L_cache, then ((L_max − L_cache) − L) / L_cache, −1 beyond
  L_max.
  """
  assert 0 < cache <= max_len
  penalty_N = (max_len - cache - np.asarray(length_N)) / cache
  return np.clip(penalty_N, -1, 0).astype(np.float32)
