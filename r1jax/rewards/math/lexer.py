r"""The tokens of an expression as models write it, LaTeX or plain."""

import re

from r1jax.rewards.math.bounds import FUNCTIONS, Unreadable

MAX_TOKENS = 300
MAX_WORD = 3  # letters in a row that may be a product

TOKEN = re.compile(
  r'\s*(?:(?P<number>\d+\.\d*|\.\d+|\d+)'
  r'|(?P<command>\\[a-zA-Z]+)|(?P<word>[a-zA-Z]+)'
  r"|(?P<sign>\.{2,3}|…|<=|>=|!!|\\[{}|]|[-+*/^_()\[\]{}|!%<>=']))"
)
WORDS = 'frac', 'sqrt', 'infty', 'pi', 'deg', *FUNCTIONS
IGNORED = r'\left', r'\right', r'\limits', r'\displaystyle'
FRACTION = ['frac', '{', None, '}', '{', None, '}']
# After these a whole number is not the first part of a mixed one.
NOT_BEFORE_MIXED = '^', '_', '/', r'\div'


def tokens(text):
  """The pieces of a text; a run of letters is cut into the names that are known,
  and a mixed number, 3\\frac12 or 3 1/2, is the sum that it means."""
  found, at = [], 0
  text = text.strip()
  while at < len(text):
    match = TOKEN.match(text, at)
    if not match:
      raise Unreadable(f'{text[at : at + 9]!r} is not understood')
    at = match.end()
    if match['word']:
      found += _names(match['word'])
    elif match['command'] and match['command'][1:] in WORDS:
      found.append(match['command'][1:])
    elif match['command'] not in IGNORED:
      found.append(match[match.lastgroup])
    if len(found) > MAX_TOKENS:
      raise Unreadable('the expression is too long')
  return _unmixed(found)


def _names(run):
  """sinx as sin, x; xy as x, y; a word is none of mathematics."""
  names, whole = [], run
  while run:
    known = [word for word in WORDS if run.startswith(word)]
    names.append(max(known, key=len) if known else run[0])
    run = run[len(names[-1]) :]
  if len([x for x in names if len(x) == 1]) > MAX_WORD:
    raise Unreadable(f'{whole[:20]!r} is a word')
  return names


def _unmixed(found):
  spelled, at = [], 0
  while at < len(found):
    length = 0
    if found[at].isdigit() and not (
      spelled and spelled[-1] in NOT_BEFORE_MIXED
    ):
      rest = found[at + 1 : at + 8]
      if _is_like(rest, FRACTION):
        length = 7
      elif _is_like(rest[:3], [None, '/', None]):
        length = 3
    if length:
      rest = found[at + 1 : at + 1 + length]
      spelled += ['(', found[at], '+', *rest, ')']
    else:
      spelled.append(found[at])
    at += 1 + length
  return spelled


def _is_like(found, pattern):
  """Whether tokens are those of a pattern, whose Nones are whole numbers."""
  return len(found) == len(pattern) and all(
    x.isdigit() if wanted is None else x == wanted
    for x, wanted in zip(found, pattern)
  )
