r"""Whether two answers that are written differently are mathematically equal:
what stands behind the exact rules of math_answer, in a worker.

- Numbers and expressions are equal as math_numeric says. A gold that may be a
  rounded number counts as in the exact rules; no other decimal is ever equal to
  what it is only near to.
- Sets are equal in any order; tuples, intervals and matrices entry by entry.
- Equations are equal up to swapped sides and a factor other than 0,
  inequalities up to a positive one; x > 3 is also (3, \infty), and "x < 1 or
  x > 2" a union.
- Of a true chain, x = 2 + 3 = 5, the last value counts, and of
  \sqrt2 \approx 1.414 the first.
- Units as in the exact rules: a missing one is forgiven, a wrong one is not,
  and nothing is converted, since a unit that was asked for is part of the
  answer: 1000 m is not 1 km, nor \pi/2 90 degrees.
- A logarithm without a base has base e or 10, whichever makes the two equal.
- Words, and letters in a row, are equal as texts or not at all: "ab" is not
  "ba".
"""

import re

import sympy

from r1jax.rewards.math import numeric, parser, value_forms
from r1jax.rewards.math.bounds import Unreadable

MAX_SET = 12  # entries of a set that are matched
INTERVALS = '()', '[]', '(]', '[)'
FLIPPED = {'<': '>', '>': '<', '<=': '>=', '>=': '<='}
PROSE = re.compile(r"[a-zA-Z ,.'-]+")
FUNCTION = re.compile(r'sin|cos|tan|cot|sec|csc')
NEAR = sympy.Rational(1, 100)  # by how much a share \approx may be off


def equal(answer, gold):
  """[whether they are equal, why], for answers that exact rules leave open."""
  a, g = value_forms.read(answer), value_forms.read(gold)
  if a is None or g is None:
    return [False, 'one of the two cannot be read']
  try:
    if _same(a, g):
      return [True, 'equal by mathematics']
    return [False, 'not equal by mathematics']
  except Unreadable as error:
    return [False, f'not read as mathematics: {error}']
  except MemoryError:
    raise
  except Exception as error:
    # Whatever sympy meets in a model's text is that text's fault.
    return [False, f'not decided: {type(error).__name__}']


def _same(a, g):
  """Whether the Value a says what the gold g says."""
  if a.unit and g.unit and a.unit != g.unit:
    return False
  if a.name and g.name and a.name != g.name and not _is_leaf(a):
    return False
  if _is_leaf(a) and _is_leaf(g):
    return _leaves(a, g)
  if a.kind == g.kind and a.kind in ('matrix', *INTERVALS):
    return len(a.body) == len(g.body) and all(map(_same, a.body, g.body))
  if a.kind == g.kind and a.kind in ('{}', r'\cup', 'and', 'or'):
    return _matched(a.body, g.body)
  if {a.kind, g.kind} == {'{}', r'\cup'}:  # "x < 1 or x > 2" is a union
    alternatives = a.body if a.kind == '{}' else g.body
    if not all(map(_is_leaf, alternatives)):
      return False
    bounds = list(map(_bounds, alternatives))
    if None in bounds or len({variable for variable, *_ in bounds}) > 1:
      return False
    return _matched(a.body, g.body)
  if g.kind in INTERVALS and _is_leaf(a):
    return _interval(a, g)
  if a.kind in INTERVALS and _is_leaf(g):
    return _interval(g, a)
  return False


def _is_leaf(value):
  return value.kind in ('number', 'text')


def _leaves(a, g):
  """The same of two texts or numbers."""
  if (a.kind, a.body, a.name, a.unit) == (g.kind, g.body, g.name, g.unit):
    return True
  if PROSE.fullmatch(a.raw) and PROSE.fullmatch(g.raw):
    return False
  # A name that one side has, f(x) = or x =, is forgiven.
  ours, signs = _relation(a, bool(g.name) or '=' in g.raw)
  golds, gold_signs = _relation(g, bool(a.name) or '=' in a.raw)
  if len(ours) > 1 or len(golds) > 1:
    return _relations(ours, signs, golds, gold_signs)
  if (a.unit == '%') == (g.unit == '%'):
    return _numbers(ours[0], golds[0], g)
  # A missing sign is forgiven where no fraction of a whole can be meant.
  x, y = (
    side / 100 if v.unit == '%' else side
    for side, v in ((ours[0], a), (golds[0], g))
  )
  return numeric.equal(x, y) or (
    golds[0].is_number
    and not numeric.near(golds[0], 0, 1)
    and numeric.equal(ours[0], golds[0])
  )


def _numbers(ours, golds, g):
  if g.kind == 'number' and g.decimals >= value_forms.ROUNDED:
    half = sympy.Rational(1, 2 * 10**g.decimals)
    return numeric.near(ours, golds, half)
  return numeric.equal(ours, golds)


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


def _relation(value, named=True):
  """(sides, signs) of a leaf; if `named`, a name before it is a side too."""
  if value.kind == 'number':
    sides, signs = [sympy.Rational(value.body)], []
  else:
    # An angle in degrees within a function is no unit of the answer.
    inside = value.unit == 'deg' and FUNCTION.search(value.raw)
    text = value.raw + ' deg' if inside else value.raw
    sides, signs = _value_of_chain(*parser.relation(text), value.name)
  if value.name and named:
    (name,), more = parser.relation(value.name)
    if not more:
      return [name, *sides], ['=', *signs]
  return sides, signs


def _value_of_chain(sides, signs, name):
  r"""The one side that a true chain of = or a \approx comes to, else the chain
  as it is."""
  if signs == ['~']:
    exact, rounded = sides
    if rounded.is_Rational and numeric.near(
      exact, rounded, abs(rounded) * NEAR
    ):
      return [exact], []
    raise Unreadable('what is said to be near is not')
  if not signs or set(signs) != {'='}:
    return sides, signs
  # What stands between the name and a number, as in A = lw = 20, is its origin.
  steps = [
    side
    for side in sides[:-1]
    if not (name and side.free_symbols and not sides[-1].free_symbols)
  ]
  if all(numeric.equal(side, sides[-1]) for side in steps):
    return sides[-1:], []
  return sides, signs


def _relations(a, signs, g, gold_signs):
  """Whether two equations, or two inequalities, say the same."""
  if len(a) == len(g) == 2 and signs == gold_signs and signs[0] in ('=', '!='):
    return numeric.proportional(a[0] - a[1], g[0] - g[1], any_sign=True)
  if not set(signs + gold_signs) <= set(FLIPPED) or len(a) != len(g):
    return False
  if len(a) == 2:
    a, strict = _above(a, signs[0])
    g, gold_strict = _above(g, gold_signs[0])
    return strict == gold_strict and numeric.proportional(a, g, any_sign=False)
  if signs[0][0] != gold_signs[0][0]:
    a, signs = a[::-1], [FLIPPED[x] for x in signs[::-1]]
  return signs == gold_signs and all(map(numeric.equal, a, g))


def _above(sides, sign):
  """(what is above 0, whether strictly) of an inequality."""
  if sign[0] == '<':
    sides = sides[::-1]
  return sides[0] - sides[1], '=' not in sign


def _bounds(value):
  """(the variable, brackets, lower and upper bound) of a leaf that is an
  inequality of one bare variable, or None."""
  sides, signs = _relation(value)
  if not signs or not set(signs) <= set(FLIPPED):
    return None
  if len(sides) == 2 and sides[1].is_Symbol:
    sides, signs = sides[::-1], [FLIPPED[signs[0]]]
  if len(sides) == 2:
    above = signs[0][0] == '<'
    sides = [-sympy.oo if above else sympy.oo, *sides]
    signs = ['<' if above else '>', *signs]
  if signs[0][0] == '>':
    sides, signs = sides[::-1], [FLIPPED[x] for x in signs[::-1]]
  if len(sides) != 3 or not sides[1].is_Symbol or signs[1][0] != '<':
    return None
  brackets = '(['['=' in signs[0]] + ')]'['=' in signs[1]]
  return sides[1], brackets, sides[0], sides[2]


def _interval(leaf, interval):
  """Whether an inequality in one bare variable says what the interval does."""
  said = _bounds(leaf)
  if said is None or len(interval.body) != 2:
    return False
  variable, brackets, *bounds = said
  if brackets != interval.kind or interval.name not in ('', str(variable)):
    return False
  ends = [_relation(x) for x in interval.body]
  return all(
    not more and numeric.equal(bound, *end)
    for bound, (end, more) in zip(bounds, ends)
  )
