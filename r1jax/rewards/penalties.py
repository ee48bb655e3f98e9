"""Penalties for the length of a response and for repetition in it."""

import numpy as np

from r1jax.rewards.verdict import Records, Texts

MAX_CHARS = 4_000  # characters without a penalty, unless the record has its own
WINDOW = 40  # characters of an n-gram


def soft_overlong(length_N: np.ndarray, limit: int, buffer: int) -> np.ndarray:
  """clip((limit - buffer - length) / buffer, -1, 0), float32, in tokens: the
  soft overlong punishment of DAPO (eq. 13), L_max = limit, L_cache = buffer."""
  assert 0 < buffer <= limit
  penalty_N = (limit - buffer - np.asarray(length_N)) / buffer
  return np.clip(penalty_N, -1, 0).astype(np.float32)


def length_penalty(records: Records, texts: Texts) -> np.ndarray:
  """clip(2 - characters / max_chars, 0, 1); MAX_CHARS without a max_chars."""
  limits = [record.get('max_chars', MAX_CHARS) for record in records]
  ratio_N = np.array([len(t) / limit for t, limit in zip(texts, limits)])
  return np.clip(2 - ratio_N, 0, 1).astype(np.float32)


def repetition_penalty(records: Records, texts: Texts) -> np.ndarray:
  """1 - repeated_share(text, WINDOW), float32: 1 without repetition."""
  shares = [repeated_share(text, WINDOW) for text in texts]
  return (1 - np.array(shares)).astype(np.float32)


def repeated_share(text: str, window: int) -> float:
  """The share of n-grams of characters, n = window, that occurred earlier; any
  run of whitespace counts as one space."""
  text = ' '.join(text.split())
  count = len(text) - window + 1
  if count < 1:
    return 0.0
  distinct = {text[i : i + window] for i in range(count)}
  return (count - len(distinct)) / count
