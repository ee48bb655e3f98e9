"""Thinking and answer between their tags: the format rewards (R1, eq. 4)."""

import re

import numpy as np

from r1jax.rewards.verdict import Records, Texts

TAGS = re.compile(r'(</?(?:think|answer)>)')
THINK_TAGS = re.compile(r'(</?think>)')


def answer_part(text: str) -> tuple[str, bool]:
  """(the text after the thinking or in its last <answer> tags, whether it has
  such tags); ('', …) if the thinking or the last <answer> is not closed."""
  _, _, rest = text.rpartition('</think>')
  if '<think>' in rest:
    return '', False
  if '<answer>' not in rest:
    return rest, False
  rest, _, after = rest.rpartition('</answer>')
  _, opened, answer = rest.rpartition('<answer>')
  is_closed = opened and '<answer>' not in after
  return answer if is_closed else '', True


def format_reward(records: Records, texts: Texts) -> np.ndarray:
  """1 if a text is <think>…</think> <answer>…</answer>, else 0; float32. The
  thinking may be empty, since some base models answer at once."""
  return np.array([_has_both_blocks(text) for text in texts], np.float32)


def think_format_reward(records: Records, texts: Texts) -> np.ndarray:
  """1 if a text is <think>…</think> and a visible rest, else 0; float32."""
  return np.array([_has_think_block(text) for text in texts], np.float32)


def _has_both_blocks(text):
  before, *blocks = TAGS.split(text)
  if blocks[0::2] != ['<think>', '</think>', '<answer>', '</answer>']:
    return False
  _, between, answer, after = blocks[1::2]
  return not (before + between + after).strip() and _is_visible(answer)


def _has_think_block(text):
  before, *blocks = THINK_TAGS.split(text)
  has_tags = blocks[0::2] == ['<think>', '</think>']
  return has_tags and not before.strip() and _is_visible(blocks[-1])


def _is_visible(text):
  """False for whitespace and for zero-width and control characters alone."""
  return any(c.isprintable() and not c.isspace() for c in text)
