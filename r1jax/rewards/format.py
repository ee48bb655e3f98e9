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
  reward_N = np.zeros(len(texts), np.float32)
  for n, text in enumerate(texts):
    before, *blocks = TAGS.split(text)
    if blocks[0::2] == ['<think>', '</think>', '<answer>', '</answer>']:
      _, between, answer, after = blocks[1::2]
      is_whole = not (before + between + after).strip()
      reward_N[n] = is_whole and _is_visible(answer)
  return reward_N


def think_format_reward(records: Records, texts: Texts) -> np.ndarray:
  """1 if a text is <think>…</think> and a visible rest, else 0; float32."""
  reward_N = np.zeros(len(texts), np.float32)
  for n, text in enumerate(texts):
    before, *blocks = THINK_TAGS.split(text)
    if blocks[0::2] == ['<think>', '</think>']:
      reward_N[n] = not before.strip() and _is_visible(blocks[-1])
  return reward_N


def _is_visible(text):
  """False for whitespace and for zero-width and control characters alone."""
  return any(c.isprintable() and not c.isspace() for c in text)
