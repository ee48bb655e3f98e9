"""Splits the text of an answer outside its brackets and environments."""

import itertools
import re

MAX_SIGNS = 3  # independent signs of an expression, which has 2^n values

OPEN, CLOSE = '([{', ')]}'

ENVIRONMENT = re.compile(r'\\(begin|end)\{')
SIGN = re.compile(r'(?<![<>!:=\\])=(?!=)|\\(approx|in|equiv)(?![a-zA-Z]) ?')
MAX_RATIO = 80  # characters
RATIO_SIGN = re.compile(r' ?(?:(?<![a-zA-Z])(?:is )?to(?![a-zA-Z])|:|比) ?')
RATIO_PART = re.compile(
  r'(?:[\d.+*/^{}()-]|\\(?:sqrt|frac|pi)(?![a-z])|(?<![a-zA-Z])[a-z](?![a-zA-Z]))+'
)
SIGNS = re.compile(r'\\(pm|mp)(?![a-zA-Z])')


def split(text: str, separator: str) -> list[str]:
  """Splits at the separators outside all brackets."""
  parts, start = [], 0
  depths = _depths(text) if separator in text else []
  for match in re.finditer(re.escape(separator), text if depths else ''):
    if depths[match.start()] == 0:
      parts.append(text[start : match.start()])
      start = match.end()
  return parts + [text[start:]]


def split_sides(text: str) -> list[str]:
  r"""The sides of =, \approx and \in outside all brackets."""
  depths, sides, start = _depths(text), [], 0
  for match in SIGN.finditer(text):
    if depths[match.start()] == 0:
      sides.append(text[start : match.start()])
      start = match.end()
  return sides + [text[start:]]


def ratio(text: str) -> list[str] | None:
  """The parts of 3:4, "3 to 4", "3 is to 4" and 3比4; None of other texts."""
  if not RATIO_SIGN.search(text) or len(text) > MAX_RATIO:
    return None
  parts = [part.strip() for part in RATIO_SIGN.split(text)]
  is_ratio = all(RATIO_PART.fullmatch(part) for part in parts)
  is_closed = all(part.count('{') == part.count('}') for part in parts)
  return parts if is_ratio and is_closed else None


def expand_signs(parts: list[str]) -> list[str]:
  r"""Replaces each part with \pm, not in brackets, by its values: two if \mp
  occurs with it, otherwise one for each choice of signs."""
  expanded = []
  for part in parts:
    signs = SIGNS.findall(part)
    if not 0 < len(signs) <= MAX_SIGNS or enclosing(part.strip()):
      expanded.append(part)
    elif 'mp' in signs:
      for pm, mp in ('+-', '-+'):
        choice = [pm if sign == 'pm' else mp for sign in signs]
        expanded.append(_with_signs(part, choice))
    else:
      for combination in itertools.product('+-', repeat=len(signs)):
        expanded.append(_with_signs(part, combination))
  return expanded


def enclosing(text: str) -> str | None:
  """The pair of brackets that encloses the whole text, or None."""
  if not text.startswith(('(', '[', '{', r'\{')):
    return None
  depth = 0
  for char in text[:-1]:
    depth += (char in OPEN) - (char in CLOSE)
    if depth == 0 and char in CLOSE:
      return None
  if text[0] == '\\':
    return r'\{\}' if text.endswith(r'\}') else None
  return text[0] + text[-1]


def _depths(text):
  """The number of brackets and environments that are open at each character."""
  changes = [(char in OPEN) - (char in CLOSE) for char in text]
  for match in ENVIRONMENT.finditer(text):
    changes[match.start()] += 1 if match[1] == 'begin' else -1
  return list(itertools.accumulate(changes))


def _with_signs(part, choice):
  signs = iter(choice)
  return SIGNS.sub(lambda match: next(signs), part)
