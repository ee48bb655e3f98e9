"""Thinking and answer between their tags: the format rewards (R1, eq. 4)."""

import html
import re
import unicodedata

import numpy as np

from r1jax.rewards.verdict import Records, Texts

TAGS = re.compile(r'(</?(?:think|answer)>)')
THINK_TAGS = re.compile(r'(</?think>)')

MAX_MARKUP = 10_000  # characters that are read as markup
# Letters and symbols without ink: Hangul fillers, an empty Braille cell, …
BLANK = set('\u115f\u1160\u3164\uffa0\u2800\U0001d159')
# What is not shown: comments, tags, spaces of LaTeX, commands without content,
# fences and emphasis without text.
UNSHOWN = re.compile(
  r'(?s)<!--(?:(?!<!--).)*?-->'
  r'|</?(?:br|p|div|span|hr|em|strong|center|answer)'
  r'\b[^<>]*>|\*{2,}|_{2,}|`+|~{2,}'
  r'|\\(?:begin|end|color|label) ?\{[^{}]*\}'
  r'|\\(?:display|text|script)style(?![a-zA-Z])'
  r'|\\[hv]?phantom ?\{[^{}]*\}|\\[hv]space\*? ?\{[^{}]*\}'
  r'|\\[a-zA-Z]+ ?\{\s*\}|\\q?quad(?![a-zA-Z])|\\[,;:! ]|\\[()\[\]]|[$~]'
)


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
  thinking may be empty, since some base models answer at once; an answer must
  have something to see."""
  reward_N = np.zeros(len(texts), np.float32)
  for n, text in enumerate(texts):
    before, *blocks = TAGS.split(text)
    if blocks[0::2] == ['<think>', '</think>', '<answer>', '</answer>']:
      _, between, answer, after = blocks[1::2]
      is_whole = not (before + between + after).strip()
      reward_N[n] = is_whole and is_visible(answer)
  return reward_N


def think_format_reward(records: Records, texts: Texts) -> np.ndarray:
  """1 if a text is <think>…</think> and a visible rest, else 0; float32."""
  reward_N = np.zeros(len(texts), np.float32)
  for n, text in enumerate(texts):
    before, *blocks = THINK_TAGS.split(text)
    if blocks[0::2] == ['<think>', '</think>']:
      reward_N[n] = not before.strip() and is_visible(blocks[-1])
  return reward_N


def is_visible(text: str) -> bool:
  """Whether a text shows anything: not spaces, zero-width characters, combining
  marks, comments, or markup without content."""
  if len(text) > MAX_MARKUP:
    return _has_ink(text)
  text = html.unescape(text)
  # Within braces, too, invisible characters are no content.
  text = ''.join(c for c in text if unicodedata.category(c) != 'Cf')
  for _ in range(3):  # a command may contain another
    text = UNSHOWN.sub('', text)
  return _has_ink(text)


def _has_ink(text):
  """Whether a character is seen by itself: a letter, number, sign or symbol."""
  return any(
    unicodedata.category(c)[0] in 'LNPS' and c not in BLANK for c in text
  )
