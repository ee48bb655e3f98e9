r"""Whether two answers that are written differently are mathematically equal:
what stands behind the exact rules of math_answer, in a worker.

- Numbers and expressions are equal where they agree to far more digits than
  their texts could make them differ by, at points of both signs for each
  variable: a difference that is no identity is seen at the first point. So
  \sqrt{x^2} is not x, nor is \ln x^2 twice \ln x.
- Sets are equal in any order; tuples, intervals and matrices entry by entry.
- Equations are equal up to swapped sides and a factor other than 0,
  inequalities up to a positive one; x > 3 is also (3, \infty).
- Units as in the exact rules: a missing one is forgiven, a wrong one is not,
  and nothing is converted, since a unit that was asked for is part of the
  answer: 1000 m is not 1 km.
"""

import itertools
import re

import sympy

from r1jax.rewards import math_parse, math_value

MAX_SET = 12  # entries of a set that are matched
HEIGHT = 400  # digits of all numbers in a text that is compared by its value
POINTS = (
  ('0.7390851332', '-1.3717421', '2.6651441', '-0.5671432904'),
  ('-2.2360679', '0.4142135', '-1.7724538', '3.3598856662'),
  ('1.6180339', '2.5029078', '0.2614972', '-1.4513692349'),
)
INTERVALS = '()', '[]', '(]', '[)'
FLIPPED = {'<': '>', '>': '<', '<=': '>=', '>=': '<='}
PROSE = re.compile(r"[a-zA-Z ,.'-]+")
FUNCTION = re.compile(r'sin|cos|tan|cot|sec|csc')


def equal(answer, gold):
  """[whether they are equal, why], for answers that exact rules leave open."""
  a, g = math_value.read(answer), math_value.read(gold)
  if a is None or g is None:
    return [False, 'one of the two cannot be read']
  try:
    if _same(a, g):
      return [True, 'equal by mathematics']
    return [False, 'not equal by mathematics']
  except math_parse.Unreadable as error:
    return [False, f'not read as mathematics: {error}']
  except (RecursionError, ZeroDivisionError, OverflowError, TypeError) as error:
    return [False, f'not decided: {type(error).__name__}']


def _same(a, g):
  """Whether the Value a says what the gold g says."""
  if a.unit and g.unit and a.unit != g.unit:
    return False
  a, g = _vector(a), _vector(g)
  if a.kind in INTERVALS and g.kind in INTERVALS and a.kind == g.kind:
    return _all_same(a.body, g.body)
  if a.kind == g.kind and a.kind in ('matrix', r'\{\}'):
    return _all_same(a.body, g.body)
  if a.kind == g.kind and a.kind in ('{}', r'\cup'):
    return _matched(a.body, g.body)
  leaf = lambda value: value.kind in ('number', 'text')
  if leaf(a) and leaf(g):
    return _leaves(a, g)
  if g.kind in INTERVALS and len(g.body) == 2 and a.kind == 'text':
    return _interval(_relation(a), g)
  if a.kind in INTERVALS and len(a.body) == 2 and g.kind == 'text':
    return _interval(_relation(g), a)
  return False


def _leaves(a, g):
  """The same of two texts or numbers."""
  if PROSE.fullmatch(a.raw) and PROSE.fullmatch(g.raw):
    return False  # Words are equal as texts or not at all.
  if (a.unit == '%') != (g.unit == '%') and a.kind != g.kind:
    a, g = _without_percent(a), _without_percent(g)
  # A name that one side has, f(x) = or x =, is forgiven.
  if a.name and not g.name and '=' not in g.raw:
    a = a._replace(name='')
  elif g.name and not a.name and '=' not in a.raw:
    g = g._replace(name='')
  return _relations(_relation(a), _relation(g))


def _vector(value):
  """A matrix of one column as the vector that it is."""
  if value.kind == 'matrix' and all(len(row.body) == 1 for row in value.body):
    return value._replace(
      kind='()', body=tuple(row.body[0] for row in value.body)
    )
  return value


def _all_same(ours, golds):
  return len(ours) == len(golds) and all(map(_same, ours, golds))


def _matched(ours, golds):
  """Whether each gold has an entry of ours of its own; equality is transitive,
  so the first that fits will do."""
  if len(ours) != len(golds) or len(ours) > MAX_SET:
    return False
  left = list(ours)
  for gold in golds:
    fits = next((n for n, x in enumerate(left) if _same(x, gold)), None)
    if fits is None:
      return False
    del left[fits]
  return True


def _without_percent(value):
  if value.unit != '%':
    return value
  return value._replace(unit='', raw=f'({_raw(value)})/100', kind='text')


def _raw(value):
  return str(value.body) if value.kind == 'number' else value.raw


def _relation(value):
  """(sides, signs) of a leaf; a name before a value is an equation's side."""
  if value.kind == 'number':
    sides, signs = [sympy.Rational(value.body)], []
  else:
    # An angle in degrees within a function is no unit of the answer.
    inside = value.unit == 'deg' and FUNCTION.search(value.raw)
    text = value.raw + ' deg' if inside else value.raw
    sides, signs = math_parse.relation(text)
  if value.name:
    (name,), more = math_parse.relation(value.name)
    if not more:
      return [name, *sides], ['=', *signs]
  return sides, signs


def _relations(ours, golds):
  (a, signs), (g, gold_signs) = ours, golds
  if len(a) == len(g) == 1:
    return _equal(a[0], g[0])
  if signs == gold_signs == ['=']:
    return _proportional(a[0] - a[1], g[0] - g[1], any_sign=True)
  if '=' in signs + gold_signs or not (signs and gold_signs):
    return False
  if len(a) == len(g) == 2:
    a, strict = _above(a, signs[0])
    g, gold_strict = _above(g, gold_signs[0])
    return strict == gold_strict and _proportional(a, g, any_sign=False)
  if len(a) != len(g):
    return False
  if signs[0][0] != gold_signs[0][0]:
    a, signs = a[::-1], [FLIPPED[x] for x in signs[::-1]]
  return signs == gold_signs and all(map(_equal, a, g))


def _above(sides, sign):
  """(what is above 0, whether strictly) of an inequality."""
  if sign[0] == '<':
    sides = sides[::-1]
  return sides[0] - sides[1], '=' not in sign


def _proportional(a, g, any_sign):
  """Whether a is g times a number other than 0."""
  if a.free_symbols != g.free_symbols or not a.free_symbols:
    return False
  values = list(zip(_values(a, 60), _values(g, 60)))
  ratios = [x / y for x, y in values if abs(y) > 1e-20]
  if len(ratios) < 2 or abs(ratios[0]) < 1e-20:
    return False
  ratio = sympy.nsimplify(ratios[0], rational=True, tolerance=1e-40)
  if not ratio.is_Rational or (ratio <= 0 and not any_sign) or ratio == 0:
    return False
  return _equal(a, ratio * g)


def _interval(relation, interval):
  """Whether an inequality in one bare variable says what the interval does."""
  sides, signs = relation
  if '=' in signs or not signs:
    return False
  if len(sides) == 2:
    if sides[1].is_Symbol:
      sides, signs = sides[::-1], [FLIPPED[signs[0]]]
    if signs[0][0] == '>':
      sides, signs = [*sides[::-1], sympy.oo], [FLIPPED[signs[0]], '<']
    else:
      sides, signs = [-sympy.oo, *sides], ['<', signs[0]]
  elif signs[0][0] == '>':
    sides, signs = sides[::-1], [FLIPPED[x] for x in signs[::-1]]
  if len(sides) != 3 or not sides[1].is_Symbol:
    return False
  kind = ('[' if '=' in signs[0] else '(') + (']' if '=' in signs[1] else ')')
  bounds = [_relation(x) for x in interval.body]
  return kind == interval.kind and all(
    not more and _equal(side, *bound)
    for side, (bound, more) in zip((sides[0], sides[2]), bounds)
  )


def _equal(a, g):
  """Whether two expressions have the same value everywhere."""
  if a == g:
    return True
  if a.is_Rational and g.is_Rational:
    return False
  if a.has(sympy.oo, sympy.zoo, sympy.nan) or g.has(
    sympy.oo, sympy.zoo, sympy.nan
  ):
    return False
  if not _agree(a, g, 30):
    return False
  height = _height(a) + _height(g)
  return height <= HEIGHT and _agree(a, g, 3 * height + 100)


def _agree(a, g, digits):
  """Whether the values agree to nearly so many digits wherever they exist, and
  exist somewhere."""
  seen = 0
  symbols = sorted(a.free_symbols | g.free_symbols, key=str)
  for x, y in zip(_values(a, digits, symbols), _values(g, digits, symbols)):
    if x is None and y is None:
      continue
    if x is None or y is None:
      return False
    if abs(x - y) > max(1, abs(x), abs(y)) * sympy.Float(10, digits) ** (
      10 - digits
    ):
      return False
    seen += 1
  return seen > 0


def _values(expression, digits, symbols=None):
  """The expression's numbers at POINTS, None where it has none."""
  symbols = symbols or sorted(expression.free_symbols, key=str)
  points = POINTS if symbols else POINTS[:1]
  for point in points:
    at = dict(zip(symbols, map(sympy.Rational, itertools.cycle(point))))
    # Symbols beyond a point's numbers must not get equal ones.
    at = {s: x + n // len(point) for n, (s, x) in enumerate(at.items())}
    value = sympy.N(expression.xreplace(at), digits, maxn=4 * digits + 100)
    yield value if value.is_number and value.is_finite else None


def _height(expression):
  """The digits of all its numbers, powers counted out."""
  if expression.is_Rational:
    return len(str(abs(expression.p))) + len(str(expression.q))
  if expression.is_Pow and expression.exp.is_Integer:
    return _height(expression.base) * min(abs(int(expression.exp)), HEIGHT)
  return 1 + sum(map(_height, expression.args))
