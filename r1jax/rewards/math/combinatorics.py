r"""Numbers of combinations and permutations, C_{10}^3, {}_{10}C_3, P_5^2, A_5^2,
as \binom{10}{3} and \frac{5!}{(5-2)!}."""

import re

ITEM = r'(?:\{ ?(\d{1,3}|[a-z]) ?\}|(\d|[a-z]))'
COUNT = re.compile(
  r'(?<![a-zA-Z\\_^])([CPA]) ?'
  rf'(?:_ ?{ITEM} ?\^ ?{ITEM}|\^ ?{ITEM} ?_ ?{ITEM})(?![\da-z^_])'
)
BEFORE = re.compile(
  rf'(?<![\w)}}\]])(?:\{{ ?\}} ?)?[_^] ?{ITEM} ?([CP]) ?_ ?{ITEM}(?![\da-z^_])'
)
ANY = re.compile(r'(?<![a-zA-Z\\])[CPA] ?[_^]')


def expand(text: str) -> str:
  """The text with all of them expanded. If a letter with an index has another
  meaning, as in C_1 + C_2^2, all are left."""
  marks = ANY.findall(text)
  matches = [*COUNT.finditer(text), *BEFORE.finditer(text)]
  if not matches or len(marks) > len(matches):
    return text
  for match in sorted(matches, key=lambda match: -match.start()):
    items = [item for item in match.groups() if item and item not in 'CPA']
    kind = next(item for item in match.groups() if item and item in 'CPA')
    n, k = items
    if match.re is COUNT and match[4] is None and match[5] is None:
      n, k = (items[1], items[0]) if match[2] is match[3] is None else items
    if not _are_counts(n, k):
      return text
    new = rf'\binom{{{n}}}{{{k}}}'
    if kind != 'C':
      new = rf'\frac{{{n}!}}{{({n}-{k})!}}'
    text = text[: match.start()] + new + text[match.end() :]
  return text


def _are_counts(n, k):
  if n.isdigit():
    return k.isdigit() and int(n) > max(int(k), 2) and int(k) > 0
  return True
