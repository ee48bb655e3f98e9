r"""Parses an expression, in LaTeX or plain text, into SymPy expressions.

No text is evaluated as Python. Numbers are exact: 0.\overline{3}, 0.(3) and
0.333... are 1/3, and 2\frac13 is 7/3. 1/2x is (1/2)x. A letter with a subscript
is one symbol, and so is a numeral with a base, 101_2.
"""

from typing import NamedTuple

import sympy

from r1jax.rewards.math import (
  bounded_arithmetic,
  cleaning,
  lexer,
  vectors,
)
from r1jax.rewards.math.bounded_arithmetic import FUNCTIONS, Unreadable

MAX_DEPTH = 40
MAX_EXTREMUM = 4  # arguments of max and min
CONSTANTS = dict(pi=sympy.pi, e=sympy.E, i=sympy.I)
CONSTANTS |= dict(infty=sympy.oo, inf=sympy.oo)
POSTFIX_FACTORS = {'%': sympy.Rational(1, 100), 'deg': sympy.pi / 180}
GREEK = {*cleaning.GREEK, 'varepsilon', 'vartheta', 'varphi'}
COMPARISONS = {'=': '=', r'\ne': '!=', r'\approx': '~'}
COMPARISONS |= dict.fromkeys(['<', r'\lt'], '<')
COMPARISONS |= dict.fromkeys(['>', r'\gt'], '>')
COMPARISONS |= dict.fromkeys(['<=', r'\le', r'\leq', r'\leqslant'], '<=')
COMPARISONS |= dict.fromkeys(['>=', r'\ge', r'\geq', r'\geqslant'], '>=')
DOTS = '...', '..', r'\ldots', r'\dots', r'\cdots'
BARS = '|', r'\|'
VECTORS = r'\overrightarrow', r'\vec'
BRACKETS = {'(': ')', '[': ']', '{': '}'}
ENDS_OF_ARGUMENT = {*BRACKETS, *FUNCTIONS}  # of a function without brackets
FLOORS = {r'\lfloor': (r'\rfloor', sympy.floor)}
FLOORS |= {r'\lceil': (r'\rceil', sympy.ceiling)}


class Relation(NamedTuple):
  """`a < b <= c` has sides [a, b, c] and signs ['<', '<=']."""

  sides: list[sympy.Expr]  # a single one for an expression
  signs: list[str]  # '<', '>', '<=', '>=', '=', '!=', '~' (approximately)


def parse(text: str) -> Relation:
  """Parses an expression, or a chain of comparisons; raises Unreadable."""
  parser = _Parser(lexer.tokenize(text))
  relation = Relation([parser.sum()], [])
  while token := parser.accept(*COMPARISONS):
    relation.signs.append(COMPARISONS[token])
    relation.sides.append(parser.sum())
  if parser.peek():
    raise Unreadable(f'{parser.peek()!r} is not supported')
  return relation


class _Parser:
  """Recursive descent over tokens; a method for each rule of the grammar."""

  def __init__(self, tokens):
    self.tokens, self.position = [*tokens, ''], 0
    self.depth = 0  # of nested sums
    self.bars = 0  # absolute values that are open

  def peek(self):
    """The next token; '' at the end."""
    return self.tokens[self.position]

  def take(self, expected=None):
    """Consumes a token, which must be the expected one if it is given."""
    token = self.peek()
    if not token or expected and token != expected:
      raise Unreadable(f'{expected or "something"!r} is missing')
    self.position += 1
    return token

  def accept(self, *expected):
    """Consumes the next token if it is an expected one; else returns ''."""
    return self.take() if self.peek() in expected else ''

  def sum(self):
    self.depth += 1
    if self.depth > MAX_DEPTH:
      raise Unreadable('the expression is nested too deeply')
    terms = [self.product()]
    while sign := self.accept('+', '-'):
      term = self.product()
      terms.append(term if sign == '+' else -term)
    self.depth -= 1
    return sympy.Add(*terms)

  def product(self):
    value = self.signed()
    while True:
      if self.accept('/', r'\div'):
        value = bounded_arithmetic.divide(value, self.signed())
      elif self.accept('*', r'\ast'):
        value *= self.signed()
      elif self.begins_factor():
        last, token = self.tokens[self.position - 1], self.peek()
        if token[0].isdigit() and last[-1].isdigit():
          raise Unreadable('two numbers in a row')
        value *= self.power()
      else:
        return value

  def signed(self):
    sign = self.accept('+', '-')
    value = self.power()
    return -value if sign == '-' else value

  def begins_factor(self):
    """Whether a factor follows without a sign of multiplication."""
    token = self.peek()
    if not token or token in COMPARISONS or token in DOTS:
      return False
    if token in BARS:
      return not self.bars
    if token[0] == '\\':
      return token not in (r'\rfloor', r'\rceil', r'\}')
    return token[0].isalnum() or token[0] in '.([{'

  def power(self):
    value = self.postfixed(self.atom())
    if not self.accept('^'):
      return value
    return self.postfixed(bounded_arithmetic.power(value, self.exponent()))

  def exponent(self):
    """What follows ^: a group, or one token with an optional sign."""
    return self.signed() if self.peek() in ('+', '-') else self.atom()

  def postfixed(self, value):
    """The value with the factorials, percent and degree signs that follow."""
    while mark := self.accept('!', '!!', '%', 'deg'):
      if mark[0] == '!':
        value = bounded_arithmetic.factorial(value, len(mark))
      else:
        value *= POSTFIX_FACTORS[mark]
    return value

  def group(self, close):
    value = self.sum()
    self.take(close)
    return value

  def atom(self):
    token = self.take()
    if token in BRACKETS:
      return self.group(BRACKETS[token])
    if token in BARS:
      self.bars += 1
      value = self.group(token)
      self.bars -= 1
      return sympy.Abs(value)
    if token in FLOORS:
      close, function = FLOORS[token]
      return function(self.group(close))
    if token[0].isdigit() or token[0] == '.' and token not in DOTS:
      return self.number(token)
    name = token.removeprefix('\\')
    if name == 'frac':
      return bounded_arithmetic.divide(self.argument(), self.argument())
    if name == 'binom':
      return bounded_arithmetic.binomial(self.argument(), self.argument())
    if name == 'sqrt':
      degree = self.group(']') if self.accept('[') else sympy.Integer(2)
      return bounded_arithmetic.root(self.argument(), degree)
    if token == r'\hat' and self.peek() in vectors.UNITS:
      return vectors.UNITS[self.take()]
    if token in VECTORS:
      return vectors.of_points(self.letters())
    if name in ('max', 'min'):
      return self.extremum(name)
    if name in FUNCTIONS:
      return self.call(name)
    if name in CONSTANTS and self.peek() != '_':
      return CONSTANTS[name]
    if len(name) == 1 and name.isalpha() or name in GREEK:
      return self.symbol(name)
    raise Unreadable(f'{token!r} is not supported')

  def extremum(self, name):
    r"""\max(a, b) or \max\{a, b\}, as (a + b + |a - b|) / 2."""
    opening = self.take()
    close = '\\}' if opening == '\\{' else BRACKETS.get(opening, '(')
    value, count = self.sum(), 1
    while self.accept(','):
      other, count = self.sum(), count + 1
      distance = sympy.Abs(value - other)
      sign = 1 if name == 'max' else -1
      value = (value + other + sign * distance) / 2
    self.take(close)
    if not 2 <= count <= MAX_EXTREMUM:
      raise Unreadable(f'{name} of {count} values')
    return value

  def letters(self):
    """Letters in braces."""
    self.take('{')
    text = ''
    while not self.accept('}'):
      text += self.take()
    return text

  def argument(self):
    r"""An argument of \frac or \sqrt: a group, or one digit as in \frac12."""
    token, position = self.peek(), self.position
    if not token.isdigit() or len(token) == 1:
      return self.atom()
    self.tokens[position : position + 1] = [token[0], token[1:]]
    return sympy.Integer(self.take())

  def symbol(self, name):
    if self.accept('_'):
      name += '_' + self.subscript()
    while self.peek() == "'":
      name += self.take()
    return sympy.Symbol(name)

  def subscript(self):
    if not self.accept('{'):
      return self.take()
    text = ''
    while not self.accept('}'):
      text += self.take()
    return text

  def number(self, token):
    if self.accept('_'):  # a numeral with a base equals only itself
      return sympy.Symbol(f'{token}_{self.subscript()}')
    whole, point, digits = token.partition('.')
    if not point:
      if len(token) > 1 and token[0] == '0':
        raise Unreadable(f'{token!r} is not a number')  # as in 2023-01-01
      return sympy.Integer(token)
    rest = self.tokens[self.position :]
    if self.accept(r'\overline'):
      period = self.enclosed('{')
    elif rest == ['(', *rest[1:2], ')', ''] and rest[1].isdigit():
      period = self.enclosed('(')  # 0.(3), but not 0.5(3)x
    elif self.accept(*DOTS):
      digits, period = bounded_arithmetic.find_period(digits)
    else:
      return sympy.Rational(token if whole else f'0{token}')
    return bounded_arithmetic.repeating_decimal(whole, digits, period)

  def enclosed(self, opening):
    """A single token in brackets."""
    self.take(opening)
    token = self.take()
    self.take(BRACKETS[opening])
    return token

  def ends_argument(self):
    r"""Whether a factor ends an argument without brackets: \sin x e^x."""
    following = self.tokens[self.position : self.position + 2]
    return following[0] in ENDS_OF_ARGUMENT or following == ['e', '^']

  def call(self, name):
    r"""A function's value: \sin^2 x, \sin^{-1} x, \log_2 8, \sin 2x."""
    base = exponent = None
    while mark := self.accept('_', '^'):
      if mark == '_':
        base = self.argument()
      else:
        exponent = self.exponent()
    if self.peek() in BRACKETS:
      value = self.atom()
    else:
      value = self.signed()
      while self.begins_factor() and not self.ends_argument():
        value *= self.power()
    if exponent == -1 and name in bounded_arithmetic.INVERSES:
      return bounded_arithmetic.INVERSES[name](value)
    value = bounded_arithmetic.apply(name, value, base)
    if exponent is None:
      return value
    return bounded_arithmetic.power(value, exponent)
