r"""Families of solutions, x = \frac{\pi}{6} + 2k\pi with an integer k."""

import re

LETTER = '[klmnpt]'
SET = r'\\in ?(?:\\mathbb ?\{? ?Z ?\}?|Z|\\Z)'
NUMBERS = (
  r'= ?0 ?, ?\\pm ?1 ?, ?\\pm ?2 ?(?:, ?\\pm ?3 ?)?, ?(?:\\[lc]?dots|\.{3})'
)
INTEGER = (
  rf'(?:(?:any |all |every )?(?:integers? )?({LETTER}) ?(?:{SET}|{NUMBERS}|'
  r'(?:is|are|be) (?:an? )?(?:any |arbitrary )?integers?|an? integer|为(?:任意)?整数|'
  r'是(?:任意)?整数)|(?:an? |any |all |every |each |some |the )?integers? '
  rf'({LETTER}))'
)
AFTER = re.compile(
  rf'(.+?)[,;]? ?(?:\( ?(?:where |for |with |其中)?{INTEGER} ?\)|'
  rf'(?:(?:where|for|with) |其中|(?<=[,; ]|\}})){INTEGER})'
)
BEFORE = re.compile(rf'(?:for )?{INTEGER}[,:;]? (.+)')


def body(text: str) -> str | None:
  """The solutions of a family with k for its integer; None of other texts."""
  if match := AFTER.fullmatch(text):
    inside, letter = match[1], next(filter(None, match.groups()[1:]))
  elif match := BEFORE.fullmatch(text):
    inside, letter = match[3], match[1] or match[2]
  else:
    return None
  standing = re.compile(rf'(?<![a-zA-Z\\_]){letter}(?![a-zA-Z(])')
  has_other = letter != 'k' and re.search(r'(?<![a-zA-Z\\])k', inside)
  if not standing.search(inside) or has_other:
    return None
  return standing.sub('k', inside).strip(' ,;')
