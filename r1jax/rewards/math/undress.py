r"""Removes the dress of letters: \vec a, \mathbf a and \hat a are a. The letters
i, j and k with such dress are unit vectors, \hat i."""

import re

from r1jax.rewards.math import left_sides

DRESS = r'\\(?:vec|hat|widehat|overrightarrow|mathbf|textbf|boldsymbol|bm|pmb)(?![a-zA-Z])'
# Not R, Z, N, Q and C, which are sets.
LETTER = rf'(?:\\hat )?(?:\\[ij]math|[a-zABD-MOPS-Y]|\\(?:{left_sides.GREEK}))'
DRESSED = re.compile(
  rf'({DRESS}) ?(?:\{{ ?({LETTER}) ?\}}|({LETTER}) ?(?![a-zA-Z]))'
)
CROSS = re.compile(rf'{DRESS} ?\{{?[^{{}}]{{1,9}}\}}? ?(?:\\times|×) ?\\')


def remove(text: str) -> str:
  r"""The text without the dress of letters; \hat i for a unit vector. A cross
  product does not commute, so its sign is replaced by one that is not read."""
  if '\\' not in text:
    return text
  if CROSS.search(text):
    text = re.sub(r'\\times|×', '⨯', text)
  for _ in range(2):  # \hat{\mathbf{i}}
    text = DRESSED.sub(_undressed, text)
  return text


def _undressed(match):
  letter = (match[2] or match[3]).removeprefix('\\hat ')
  letter = letter.removeprefix('\\').removesuffix('math')
  if letter in ('i', 'j', 'k'):
    return rf'\hat {letter} '
  space = ' ' if match.string[: match.start()][-1:].isalpha() else ''
  return space + (letter if len(letter) == 1 else rf'\{letter} ')
