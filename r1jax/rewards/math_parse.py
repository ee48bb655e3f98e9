r"""From an expression as models write it, LaTeX or plain, to sympy's.

An own parser of a small grammar: nothing of the text is evaluated as Python,
and nothing grows. Numbers are exact; 0.\overline{3}, 0.(3) and 0.333... are 1/3.
1/2x is (1/2)x. A subscripted letter is one name, and so is 101_2, a numeral.
"""

import re

import sympy

from r1jax.rewards import math_bounds
from r1jax.rewards.math_bounds import Unreadable

MAX_TOKENS = 300
MAX_DEPTH = 40
MAX_WORD = 3  # letters in a row that may be a product

TOKEN = re.compile(
  r'\s*(?:(?P<number>\d+\.\d*|\.\d+|\d+)'
  r'|(?P<command>\\[a-zA-Z]+)|(?P<word>[a-zA-Z]+)'
  r'|(?P<sign>\.{2,3}|…|<=|>=|\\[{}|]|[-+*/^_()\[\]{}|!%<>=′]))'
)
FUNCTIONS = dict(
  sin=sympy.sin, cos=sympy.cos, tan=sympy.tan, cot=sympy.cot, sec=sympy.sec,
  csc=sympy.csc, arcsin=sympy.asin, arccos=sympy.acos, arctan=sympy.atan,
  asin=sympy.asin, acos=sympy.acos, atan=sympy.atan, sinh=sympy.sinh,
  cosh=sympy.cosh, tanh=sympy.tanh, ln=sympy.log, log=sympy.log, lg=sympy.log,
  exp=sympy.exp,
)  # fmt: skip
INVERSE = dict(sin=sympy.asin, cos=sympy.acos, tan=sympy.atan)
CONSTANTS = dict(
  pi=sympy.pi, e=sympy.E, i=sympy.I, infty=sympy.oo, inf=sympy.oo
)
WORDS = 'frac', 'sqrt', 'infty', 'pi', 'deg', *FUNCTIONS
GREEK = (
  'alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu '
  'nu xi rho sigma tau phi varphi chi psi omega Delta Lambda Sigma Omega'.split()
)
COMPARISONS = {
  '<': '<', '>': '>', '<=': '<=', '>=': '>=', '=': '=', r'\lt': '<',
  r'\gt': '>', r'\le': '<=', r'\leq': '<=', r'\leqslant': '<=', r'\ge': '>=',
  r'\geq': '>=', r'\geqslant': '>=',
}  # fmt: skip
PRODUCT = '*', '/', r'\div', r'\cdot', r'\times', r'\ast'
DOTS = '...', '..', '…', r'\ldots', r'\dots', r'\cdots'


def relation(text):
  """(sides, signs): `a < b <= c` is ([a, b, c], ['<', '<=']); an expression is
  one side. Unreadable if the text is neither."""
  reader = _Reader(_tokens(text))
  sides, signs = [reader.sum()], []
  while reader.ahead() in COMPARISONS:
    signs.append(COMPARISONS[reader.take()])
    sides.append(reader.sum())
  if reader.ahead() is not None:
    raise Unreadable(f'{reader.ahead()!r} is not understood')
  return sides, signs


def _tokens(text):
  """The pieces of a text; a run of letters is cut into names that are known."""
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
    else:
      found.append(match[match.lastgroup])
    if len(found) > MAX_TOKENS:
      raise Unreadable('the expression is too long')
  return found


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


class _Reader:
  """Recursive descent over tokens."""

  def __init__(self, tokens):
    self.tokens, self.at, self.depth, self.bars = tokens, 0, 0, 0

  def ahead(self, n=0):
    return self.tokens[self.at + n] if self.at + n < len(self.tokens) else None

  def take(self, wanted=None):
    token = self.ahead()
    if token is None or wanted and token != wanted:
      raise Unreadable(f'{wanted or "something"!r} is missing')
    self.at += 1
    return token

  def sum(self):
    self.depth += 1
    if self.depth > MAX_DEPTH:
      raise Unreadable('the expression is nested too deeply')
    terms = [self.product()]
    while self.ahead() in ('+', '-'):
      sign = self.take()
      term = self.product()
      terms.append(term if sign == '+' else -term)
    self.depth -= 1
    return sympy.Add(*terms)

  def product(self):
    value = self.signed()
    while True:
      token = self.ahead()
      if token in PRODUCT:
        self.take()
        factor = self.signed()
        value = (
          math_bounds.divided(value, factor)
          if token in '/\\div'
          else value * factor
        )
      elif self.begins_factor():
        value *= self.power()
      else:
        return value

  def signed(self):
    if self.ahead() in ('+', '-'):
      self.depth += 1
      if self.depth > MAX_DEPTH:
        raise Unreadable('too many signs')
      sign, value = self.take(), self.signed()
      self.depth -= 1
      return value if sign == '+' else -value
    return self.power()

  def begins_factor(self):
    token = self.ahead()
    if token is None or token in COMPARISONS or token in DOTS:
      return False
    if token in ('|', r'\|'):
      return not self.bars
    return token[0] == '\\' or token[0].isalnum() or token[0] in '.([{'

  def power(self):
    value = self.postfixed(self.atom())
    if self.ahead() != '^':
      return value
    self.take()
    return self.postfixed(math_bounds.power(value, self.exponent()))

  def exponent(self):
    """What follows ^: a group, or one signed token."""
    if self.ahead() in ('+', '-'):
      return self.signed()
    return self.atom(single=True)

  def postfixed(self, value):
    while self.ahead() in ('!', '%', 'deg', r'\%', r'\degree'):
      mark = self.take()
      if mark == '!':
        value = math_bounds.factorial(value)
      else:
        value *= (
          sympy.pi / 180
          if mark in ('deg', r'\degree')
          else sympy.Rational(1, 100)
        )
    return value

  def group(self, close):
    value = self.sum()
    self.take(close)
    return value

  def atom(self, single=False):
    token = self.take()
    if token in ('(', '[', '{'):
      return self.group({'(': ')', '[': ']', '{': '}'}[token])
    if token in ('|', r'\|'):
      self.bars += 1
      value = self.sum()
      self.bars -= 1
      self.take(token)
      return sympy.Abs(value)
    if token[0].isdigit() or token[0] == '.':
      if single and len(token) > 1 and '.' not in token:  # x^23 is x^2 3
        self.at -= 1
        self.tokens[self.at] = token[1:]
        token = token[0]
      return self.number(token)
    if token in ('frac', r'\frac'):
      above = self.atom(single=True)
      return math_bounds.divided(above, self.atom(single=True))
    if token in ('sqrt', r'\sqrt'):
      degree = sympy.Integer(2)
      if self.ahead() == '[':
        self.take()
        degree = self.group(']')
      return math_bounds.power(
        self.atom(single=True), math_bounds.divided(sympy.Integer(1), degree)
      )
    if token == r'\binom':
      above = self.atom(single=True)
      return math_bounds.binomial(above, self.atom(single=True))
    name = token.removeprefix('\\')
    if name in FUNCTIONS:
      return self.call(name)
    if name in CONSTANTS and self.ahead() != '_':
      return CONSTANTS[name]
    if len(name) == 1 and name.isalpha() or name in GREEK:
      return self.symbol(name)
    raise Unreadable(f'{token!r} is not understood')

  def symbol(self, name):
    if self.ahead() == '_':
      self.take()
      name += '_' + self.subscript()
    while self.ahead() == '′':
      name += self.take()
    return sympy.Symbol(name)

  def subscript(self):
    if self.ahead() != '{':
      return self.take()
    parts = [self.take()]
    while parts[-1] != '}':
      parts.append(self.take())
    return ''.join(parts[1:-1])

  def number(self, token):
    if self.ahead() == '_':  # a numeral of another base is equal to itself
      self.take()
      return sympy.Symbol(f'{token}_{self.subscript()}')
    whole, point, digits = token.partition('.')
    if point and self.ahead() == r'\overline':
      self.take()
      self.take('{')
      period = self.take()
      self.take('}')
      return math_bounds.repeating(whole, digits, period)
    if point and self.ahead() == '(' and self.period():
      self.take()
      period = self.take()
      self.take()
      return math_bounds.repeating(whole, digits, period)
    if point and self.ahead() in DOTS:
      self.take()
      if len(digits) < 3 or len(set(digits[-3:])) > 1:
        raise Unreadable('what the dots stand for is not said')
      return math_bounds.repeating(whole, digits[:-1], digits[-1])
    return sympy.Rational(token if whole else f'0{token}')

  def period(self):
    """Whether (digits) ends the text: 0.(3), but not 0.5(3)x."""
    token = self.ahead(1)
    ends = self.ahead(2) == ')' and self.ahead(3) is None
    return (
      ends and token.isdigit() and not self.tokens[self.at - 1].endswith('5')
    )

  def call(self, name):
    """A function's value: \\sin^2 x, \\sin^{-1} x, \\log_2 8, \\sin 2x."""
    base = exponent = None
    while self.ahead() in ('_', '^'):
      if self.take() == '_':
        base = self.atom(single=True)
      else:
        exponent = self.exponent()
    if self.ahead() in ('(', '[', '{'):
      value = self.atom()
    else:
      value = self.power() if self.ahead() != '-' else self.signed()
      while self.begins_factor() and self.plain():
        value *= self.power()
    if exponent == -1 and name in INVERSE:
      return INVERSE[name](value)
    result = FUNCTIONS[name](value)
    if name in ('log', 'lg') and (base is not None or name == 'lg'):
      result = math_bounds.divided(
        result, sympy.log(10 if base is None else base)
      )
    return result if exponent is None else math_bounds.power(result, exponent)

  def plain(self):
    """Whether a factor of a function's argument without brackets is ahead."""
    name = self.ahead().removeprefix('\\')
    return name not in FUNCTIONS and self.ahead() not in ('(', '[', '{')
