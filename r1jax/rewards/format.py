"""Does a response keep the form: the thinking, then the answer, in tags."""

import re

import numpy as np

TAGS = re.compile(r'(</?(?:think|answer)>)')
THINK_TAGS = re.compile(r'(</?think>)')


def format_reward(records, texts):
  """1 where the whole text is <think>…</think> <answer>…</answer>, else 0.

  Each tag stands once and nothing but whitespace around the two blocks; the
  thinking may be empty (some bases answer at once), the answer not blank.
  """
  return np.array([_tagged(text) for text in texts], np.float32)


def think_format_reward(records, texts):
  """1 where the whole text is <think>…</think>, once, and a non-blank rest.

  The paper's own words: its format reward names the think tags alone.
  """
  return np.array([_thought(text) for text in texts], np.float32)


def _tagged(text):
  before, *blocks = TAGS.split(text)
  if blocks[0::2] != ['<think>', '</think>', '<answer>', '</answer>']:
    return False
  _, between, answer, after = blocks[1::2]
  return not (before + between + after).strip() and _visible(answer)


def _thought(text):
  before, *blocks = THINK_TAGS.split(text)
  if blocks[0::2] != ['<think>', '</think>']:
    return False
  return not before.strip() and _visible(blocks[-1])


def _visible(text):
  """Zero-width and control characters do not make an answer."""
  return any(c.isprintable() and not c.isspace() for c in text)
