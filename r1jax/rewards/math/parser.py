r"""From an expression as models write it, LaTeX or plain, to sympy's.

An own parser of a small grammar: nothing of the text is evaluated as Python,
and nothing grows. Numbers are exact; 0.\overline{3}, 0.(3) and 0.333... are 1/3,
2\frac13 is 7/3. 1/2x is (1/2)x, and 2^10 is 1024. A subscripted letter is one
name, and so is 101_2, a numeral. A logarithm that does not say its base is one of
any base.
"""

import sympy

from r1jax.rewards.math import bounds, lexer
from r1jax.rewards.math.bounds import Unreadable

MAX_DEPTH = 40
CONSTANTS = dict(
  pi=sympy.pi, e=sympy.E, i=sympy.I, infty=sympy.oo, inf=sympy.oo
)
GREEK = (
  'alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa '
  'lambda mu nu xi rho sigma tau upsilon phi varphi chi psi omega Gamma Delta '
  'Theta Lambda Xi Sigma Phi Psi Omega'.split()
)
COMPARISONS = {
  '<': '<',
  '>': '>',
  '<=': '<=',
  '>=': '>=',
  '=': '=',
  r'\lt': '<',
  r'\gt': '>',
  r'\le': '<=',
  r'\leq': '<=',
  r'\leqslant': '<=',
  r'\ge': '>=',
  r'\geq': '>=',
  r'\geqslant': '>=',
  r'\ne': '!=',
  r'\approx': '~',
}
PRODUCT = '*', '/', r'\div', r'\cdot', r'\times', r'\ast'
DOTS = '...', '..', '…', r'\ldots', r'\dots', r'\cdots'
BRACKETS = {'(': ')', '[': ']', '{': '}'}
ROUNDED = {
  r'\lfloor': (r'\rfloor', sympy.floor),
  r'\lceil': (r'\rceil', sympy.ceiling),
}


def relation(text):
  """(sides, signs): `a < b <= c` is ([a, b, c], ['<', '<=']); an expression is
  one side. Unreadable if the text is neither."""
  reader = _Reader(lexer.tokens(text))
  sides, signs = [reader.sum()], []
  while reader.ahead() in COMPARISONS:
    signs.append(COMPARISONS[reader.take()])
    sides.append(reader.sum())
  if reader.ahead() is not None:
    raise Unreadable(f'{reader.ahead()!r} is not understood')
  return sides, signs


def _is_digits(token):
  return token is not None and token.isdigit()


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
          bounds.divided(value, factor) if token in '/\\div' else value * factor
        )
      elif self.begins_factor():
        if token[0].isdigit() and self.tokens[self.at - 1][-1].isdigit():
          raise Unreadable('there are two numbers beside each other')
        value *= self.power()
      else:
        return value

  def signed(self):
    if self.ahead() not in ('+', '-'):
      return self.power()
    sign = self.take()
    return self.power() if sign == '+' else -self.power()

  def begins_factor(self):
    token = self.ahead()
    if token is None or token in COMPARISONS or token in DOTS:
      return False
    if token in ('|', r'\|'):
      return not self.bars
    if token[0] == '\\':
      return token not in (r'\rfloor', r'\rceil')
    return token[0].isalnum() or token[0] in '.([{'

  def power(self):
    value = self.postfixed(self.atom())
    if self.ahead() != '^':
      return value
    self.take()
    return self.postfixed(bounds.power(value, self.exponent()))

  def exponent(self):
    """What follows ^: a group, or one signed token."""
    return self.signed() if self.ahead() in ('+', '-') else self.atom()

  def postfixed(self, value):
    while self.ahead() in ('!', '!!', '%', 'deg', r'\%', r'\degree'):
      mark = self.take()
      if mark[0] == '!':
        value = bounds.factorial(value, len(mark))
      elif mark in ('deg', r'\degree'):
        value *= sympy.pi / 180
      else:
        value *= sympy.Rational(1, 100)
    return value

  def group(self, close):
    value = self.sum()
    self.take(close)
    return value

  def atom(self):
    token = self.take()
    if token in BRACKETS:
      return self.group(BRACKETS[token])
    if token in ('|', r'\|'):
      self.bars += 1
      value = self.sum()
      self.bars -= 1
      self.take(token)
      return sympy.Abs(value)
    if token in ROUNDED:
      close, function = ROUNDED[token]
      return function(self.group(close))
    if token[0].isdigit() or token[0] == '.' and token not in DOTS:
      return self.number(token)
    name = token.removeprefix('\\')
    if name in ('frac', 'binom'):
      above = self.argument()
      operation = bounds.divided if name == 'frac' else bounds.binomial
      return operation(above, self.argument())
    if name == 'sqrt':
      return self.root()
    if name in bounds.FUNCTIONS:
      return self.call(name)
    if name in CONSTANTS and self.ahead() != '_':
      return CONSTANTS[name]
    if len(name) == 1 and name.isalpha() or name in GREEK:
      return self.symbol(name)
    raise Unreadable(f'{token!r} is not understood')

  def argument(self):
    """What \\frac or \\sqrt stands before: of \\frac12 one digit."""
    token = self.ahead()
    if _is_digits(token) and len(token) > 1:
      self.tokens[self.at : self.at + 1] = [token[0], token[1:]]
      return sympy.Integer(self.take())
    return self.atom()

  def root(self):
    if self.ahead() != '[':
      return bounds.root(self.argument(), sympy.Integer(2))
    self.take()
    degree = self.group(']')
    return bounds.root(self.argument(), degree)

  def symbol(self, name):
    if self.ahead() == '_':
      self.take()
      name += '_' + self.subscript()
    while self.ahead() == "'":
      name += self.take()
    return sympy.Symbol(name)

  def subscript(self):
    if self.ahead() != '{':
      return self.take()
    self.take()
    parts = []
    while self.ahead() != '}':
      parts.append(self.take())
    self.take()
    return ''.join(parts)

  def number(self, token):
    if self.ahead() == '_':  # a numeral of another base is equal to itself
      self.take()
      return sympy.Symbol(f'{token}_{self.subscript()}')
    whole, point, digits = token.partition('.')
    if not point:
      if len(token) > 1 and token[0] == '0':
        raise Unreadable(f'{token!r} is no number')  # as in 2023-01-01
      return sympy.Integer(token)
    if self.ahead() == r'\overline':
      self.take()
      return bounds.repeating(whole, digits, self.enclosed('{'))
    if self.ahead() == '(' and self.ends_in_period():
      return bounds.repeating(whole, digits, self.enclosed('('))
    if self.ahead() in DOTS:
      self.take()
      return bounds.repeating(whole, *bounds.continued(digits))
    return sympy.Rational(token if whole else f'0{token}')

  def ends_in_period(self):
    """Whether (digits) ends the text: 0.(3), but not 0.5(3)x."""
    return _is_digits(self.ahead(1)) and (
      self.ahead(2) == ')' and self.ahead(3) is None
    )

  def enclosed(self, opening):
    """The one token in brackets that is ahead."""
    self.take(opening)
    token = self.take()
    self.take(BRACKETS[opening])
    return token

  def call(self, name):
    """A function's value: \\sin^2 x, \\sin^{-1} x, \\log_2 8, \\sin 2x."""
    base = exponent = None
    while self.ahead() in ('_', '^'):
      if self.take() == '_':
        base = self.argument()
      else:
        exponent = self.exponent()
    if self.ahead() in BRACKETS:
      value = self.atom()
    else:
      value = self.signed()
      while self.begins_factor() and self.plain():
        value *= self.power()
    if exponent == -1 and name in bounds.INVERSE:
      return bounds.INVERSE[name](value)
    result = bounds.function(name, value, base)
    return result if exponent is None else bounds.power(result, exponent)

  def plain(self):
    """Whether a factor of a function's argument without brackets is ahead."""
    name = self.ahead().removeprefix('\\')
    return name not in bounds.FUNCTIONS and self.ahead() not in BRACKETS
