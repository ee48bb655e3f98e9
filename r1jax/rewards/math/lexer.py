"""Splits an expression, in LaTeX or plain text, into tokens."""

import re

from r1jax.rewards.math.bounded_arithmetic import FUNCTIONS, Unreadable

MAX_TOKENS = 300
MAX_LETTERS = 4  # of a run of letters that may be a product of variables

WORD = re.compile(
  '(?i)[^aeiou][aeiou]+[^aeiou]|[aeiou]{2}|[aeiou][^aeiou][aeiou]'
)
TOKEN = re.compile(
  r'\s*(?:(?P<number>\d+\.\d*|\.\d+|\d+)'
  r'|(?P<command>\\[a-zA-Z]+)|(?P<word>[a-zA-Z]+)'
  r"|(?P<sign>\.{2,3}|<=|>=|!!|\\[{}|]|[-+*/^_()\[\]{}|!%<>=',]))"
)
NAMES = 'frac', 'sqrt', 'infty', 'pi', 'deg', 'max', 'min', *FUNCTIONS
# The fraction of a mixed number, with None for a whole number.
FRACTIONS = ['frac', '{', None, '}', '{', None, '}'], [None, '/', None]
# After these a whole number is not the first part of a mixed number.
NOT_BEFORE_MIXED = '^', '_', '/', r'\div'


def tokenize(text: str) -> list[str]:
  r"""The tokens of an expression: a run of letters is split into function names
  and letters; a mixed number, 3\frac12 or 3 1/2, becomes (3 + 1/2)."""
  tokens: list[str] = []
  text, position = text.strip(), 0
  while position < len(text):
    match = TOKEN.match(text, position)
    if not match:
      raise Unreadable(f'{text[position : position + 9]!r} is not supported')
    position = match.end()
    if match['word']:
      tokens += _split_letters(match['word'])
    elif match['command'] and match['command'][1:] in NAMES:
      tokens.append(match['command'][1:])
    elif match['command'] != r'\limits':
      tokens.append(match[0].lstrip())
    if len(tokens) > MAX_TOKENS:
      raise Unreadable('the expression is too long')
  return _expand_mixed_numbers(tokens)


def _split_letters(letters):
  """sinx as sin, x; xy as x, y. Raises Unreadable for other words."""
  names, rest = [], letters
  while rest:
    known = [name for name in NAMES if rest.startswith(name)]
    names.append(max(known, key=len) if known else rest[0])
    rest = rest[len(names[-1]) :]
  count = sum(len(name) == 1 for name in names)
  if count > MAX_LETTERS or count > 3 and WORD.search(letters):
    raise Unreadable(f'{letters[:20]!r} is a word')
  return names


def _expand_mixed_numbers(tokens):
  pattern = [None if token.isdigit() else token for token in tokens]
  expanded, position = [], 0
  while position < len(tokens):
    previous, token = expanded[-1] if expanded else '', tokens[position]
    position = start = position + 1
    if token.isdigit() and previous not in NOT_BEFORE_MIXED:
      for fraction in FRACTIONS:
        if pattern[start : start + len(fraction)] == fraction:
          position += len(fraction)
    if position > start:
      expanded += ['(', token, '+', *tokens[start:position], ')']
    else:
      expanded.append(token)
  return expanded
