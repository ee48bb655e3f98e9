"""Reads what stands after a number, or before it: multipliers, units, money.

An unknown word is not a unit. Known are the units and counted things of
unit_words, currencies, and the words of the gold answer. Multipliers (million,
dozen, sixths, 万) multiply the number. The unit of a quantity is a text in
normal form, '' without one: 'meter*second^-1' for "m/s" and for "meters per
second", '%' or '% increase', '$' or '$*hour^-1' for money with a rate, '#' and
words for counted things. Units are never converted.
"""

import re
from collections.abc import Collection
from fractions import Fraction
from typing import NamedTuple

from r1jax.rewards.math import cleaning, han, unit_words

FUNCTIONS = set('pi sqrt frac sin cos tan cot sec csc log ln exp'.split())
MAX_TAIL = 12  # tokens after a number

SYMBOLS = dict(
  m='meter', s='second', g='gram', h='hour', l='liter', L='liter',
  A='ampere', K='kelvin', N='newton', J='joule', W='watt', V='volt',
  C='coulomb', F='farad', T='tesla', H='henry', Ω='ohm', Pa='pascal',
  Hz='hertz', Wb='weber', Bq='becquerel', eV='electronvolt', mol='mole',
  rad='radian', cal='calorie', bar='bar',
)  # fmt: skip
PREFIXES = dict(
  k='kilo', c='centi', m='milli', d='deci', M='mega', G='giga', n='nano'
) | dict.fromkeys('μµ', 'micro')
ABBREVIATIONS = dict(
  hr='hour', hrs='hour', min='minute', mins='minute', secs='second', yr='year',
  yrs='year', ft='foot', yd='yard', mi='mile', lb='pound', lbs='pound',
  oz='ounce', gal='gallon', qt='quart', pt='pint', tsp='teaspoon', amp='ampere',
  tbsp='tablespoon', ha='hectare', deg='degree', atm='atmosphere', kilo='kilogram',
  kilos='kilogram', KB='kilobyte', MB='megabyte', GB='gigabyte', dB='decibel',
  wk='week', wks='week', km='kilometer', inch='inch',
)  # fmt: skip
ABBREVIATIONS['in'] = 'inch'
COMPOUNDS = dict(
  mph='mile hour^-1', kph='kilometer hour^-1', kmh='kilometer hour^-1',
  kWh='kilowatt hour', rpm='revolution minute^-1', psi='pound inch^-2',
  Nm='newton meter', cc='centimeter^3', sqft='foot^2',
)  # fmt: skip
LONG_PREFIXES = 'kilo centi milli deci mega giga micro nano'.split()
CURRENCY_SIGNS = {
  '$': '$', '€': '€', '£': '£', '¥': '¥', '￥': '¥', '₹': '₹', '₽': '₽',
  'US$': '$', 'USD': '$', 'EUR': '€', 'GBP': '£', 'CNY': '¥', 'RMB': '¥',
  'INR': '₹', '¢': 'cent', 'Rs.': '₹', 'Rs': '₹', 'HK$': 'HK$', 'C$': 'C$', 'A$': 'A$',
}  # fmt: skip
CURRENCY_WORDS = dict(
  dollar='$', dollars='$', usd='$', buck='$', bucks='$', euro='€', euros='€',
  eur='€', gbp='£', yuan='¥', rmb='¥', cny='¥', rupee='₹', rupees='₹', inr='₹',
  yen='yen', peso='peso', pesos='peso', ruble='₽', rubles='₽', won='won',
  cent='cent', cents='cent', penny='cent', pence='pence', shilling='shilling',
  shillings='shilling', franc='franc', francs='franc',
)  # fmt: skip
CURRENCIES = {*CURRENCY_SIGNS.values(), *CURRENCY_WORDS.values()}
POWERS = dict(hundred=2, thousand=3, million=6, billion=9, trillion=12)
MULTIPLIERS = {name: Fraction(10**n) for name, n in POWERS.items()}
MULTIPLIERS |= {name + 's': x for name, x in MULTIPLIERS.items()}
MULTIPLIERS |= dict.fromkeys(['dozen', 'dozens'], Fraction(12))
PARTS = dict(half=2, third=3, fourth=4, quarter=4, fifth=5, sixth=6, seventh=7)
PARTS |= dict(eighth=8, ninth=9, tenth=10, eleventh=11, twelfth=12)
PARTS |= dict(twentieth=20, hundredth=100, thousandth=1000, millionth=10**6)
for _part, _n in PARTS.items():
  MULTIPLIERS |= dict.fromkeys([_part, _part + 's'], Fraction(1, _n))
MULTIPLIERS['halves'] = Fraction(1, 2)
PERCENT = {'%', 'percent', 'pct', 'percentage'}
DIRECTIONS = set('increase decrease off discount profit loss gain'.split())
DIRECTIONS |= set(
  'reduction growth decline interest tax chance more less higher lower'.split()
)
# After a quantity these say nothing about its value.
TOTALS = [['total'], ['in', 'total'], ['altogether'], ['in', 'all'], ['each']]
PERSONS = dict(person='people', child='children', man='men', woman='women')
PER = {'/', 'per', 'a', 'an', 'each'}
AREA = dict(square=2, sq=2, cubic=3, cu=3, squared=2, cubed=3)
IGNORED = 'unit', 'units'
# A word of these is no unit, even if the gold answer has it.
NOT_UNITS = FUNCTIONS | set(
  """and or to of the plus minus times over less more than most least not no is
  about below above under are was if mod base choose point zero negative half
  factorial infinity infty inf arcsin arccos arctan sinh cosh tanh lim max min
  gcd lcm det sum int prod for all any none other else when where wrong perhaps
  maybe right correct incorrect true false first second last between with
  without january february march april may june july august september october
  november december monday tuesday wednesday thursday friday saturday sunday
  one two three four five six seven eight nine ten text left mathbb emptyset
  alpha beta gamma delta theta omega phi lambda overline""".split()
)
NAMES: dict[str, str] = {}
for _line in unit_words.UNITS.split():
  _names = _line.split('=')
  NAMES |= dict.fromkeys(_names, _names[0])
COUNTED = set(unit_words.COUNTED.split())
SINGLE = set('mgshlLAKNJWVCFTHΩ')  # only after a space, or as the gold's unit
GLUED = set('cm km mm kg ft mph kph mL ml kWh Hz rpm lb lbs oz hr hrs'.split())

PREFIX_SIGN = re.compile(
  r'([+-]?) ?(US\$|HK\$|C\$|A\$|Rs\.? ?|(?:USD|EUR|GBP|CNY|RMB|INR) ?|[$€£¥￥₹₽])'
  r' ?(?=[\d.\\({+-])'
)
TOKEN = re.compile(
  r' ?(?:(?P<word>[a-zA-ZΩμµ]+)|(?P<power>\^\{?-?\d\}?)|(?P<sign>[%/*()$€£¥₹¢-]))'
)
TAIL = re.compile(r'[.a-zA-ZΩμµ%$€£¥₹¢/*^{}\d() -]*')
COMPOUND = re.compile(r'(\d+) ?([a-z]+)')
COMPOUNDS_OF = re.compile(r'\d+ ?[a-z]+(?:(?:,| and|, and)? \d+ ?[a-z]+)+')
COMPOUND_UNITS = (
  'year month week day hour minute second'.split(),
  'mile yard foot inch'.split(),
  'pound ounce'.split(),
  ['$', 'cent'],
  'kilogram gram'.split(),
  'meter centimeter'.split(),
)
DOTTED = re.compile(r'(?<=[a-zA-Z])\.(?= |$)')  # sq. ft.
FRACTION = re.compile(
  r' \\frac\{ ?([a-zA-Z][a-zA-Z*^\d ]*?) ?\}\{ ?([a-zA-Z][a-zA-Z*^\d ]*?) ?\}$'
)
START = re.compile(r'(?<=[\d)}.%a-z])(?= ?(?:[a-zA-ZΩμµ%$€£¥₹¢(]|/ ?[a-z]))')


class Quantity(NamedTuple):
  """A number's text, a factor that multiplies it, and its unit."""

  number: str
  factor: Fraction = Fraction(1)
  unit: str = ''


def words_of(gold: str) -> frozenset[str]:
  """The words of a gold answer that may be the name of its unit."""
  words = {word.lower() for word in re.findall(r'[a-zA-Z]{3,}', gold)}
  words |= set(re.findall(r'[a-zA-Z]+', split(cleaning.clean(gold)).unit))
  return frozenset(words - NOT_UNITS - MULTIPLIERS.keys())


def split(text: str, words: Collection[str] = ()) -> Quantity:
  """The parts of a quantity. `words` are those of the gold answer."""
  text = text.strip()
  if not text.isascii():
    text = han.expand(text)
  text = FRACTION.sub(r' \1/(\2)', text)
  currency = ''
  if match := PREFIX_SIGN.match(text):
    currency = CURRENCY_SIGNS[match[2].strip()]
    text = match[1] + text[match.end() :]
  if (match := han.TAIL.search(text)) and not currency:
    unit = han.unit(match[1])
    if unit is not None:
      return Quantity(text[: match.start()], unit=unit)
  for match in START.finditer(text):
    start = match.start()
    if len(text) - start > 80 or not TAIL.fullmatch(text, start):
      continue
    found = _read_tail(text[start:], text[start - 1], currency, words)
    if found:
      return Quantity(text[:start].strip(), *found)
  return Quantity(text, unit=currency)


def are_compatible(unit: str, gold: str) -> bool:
  """Whether an answer with one unit may equal a gold answer with the other. A
  missing unit, rate or direction is accepted."""
  if not unit or not gold or unit == gold:
    return True
  if unit[0] == gold[0] == '#':
    return set(unit[1:].split()) <= set(gold[1:].split())
  if unit[0] == gold[0] == '%':
    return '%' in (unit, gold)
  if {unit, gold} in (
    {'degree', 'degreeCelsius'},
    {'degree', 'degreeFahrenheit'},
  ):
    return True
  short, long = sorted((unit, gold), key=len)
  return short in CURRENCIES and long.startswith(short + '*')


def compound(text: str) -> str | None:
  """The normal form of 2 hours and 30 minutes, or None: at least two whole
  numbers with units of one kind, the larger unit first."""
  pairs = COMPOUND.findall(text) if len(text) < 60 else []
  if len(pairs) < 2 or not COMPOUNDS_OF.fullmatch(text):
    return None
  names = [_name(word, (), True) for _, word in pairs]
  for kind in COMPOUND_UNITS:
    if all(name in kind for name in names):
      places = [kind.index(name) for name in names]
      if places == sorted(set(places)):
        return ' '.join(
          f'{int(x)} {name}' for (x, _), name in zip(pairs, names)
        )
  return None


def is_percent(unit: str) -> bool:
  return unit.startswith('%')


def _read_tail(tail, previous, currency, words):
  """(factor, unit) of what follows a number, or None if it is something else."""
  tokens = _tokenize(tail)
  if not tokens:
    return None
  is_glued, after_letter = tail[0] not in ' (', previous.isalpha()
  first = tokens[0]
  if is_glued and first[0].isalpha():
    if after_letter or not _may_be_glued(first, words):
      return None
  if after_letter and len(first) == 1 and first.isalpha():
    return None
  if len(tokens) > 2 and tokens[0] == '(' and tokens[-1] == ')':
    tokens = tokens[1:-1]
  factor = Fraction(1)
  while tokens and tokens[0].lower() in MULTIPLIERS:
    factor *= MULTIPLIERS[tokens.pop(0).lower()]
    if tokens and tokens[0] == 'of':
      tokens.pop(0)
  if factor != 1 and after_letter and previous != 'i':
    return None  # x million
  for phrase in TOTALS:
    if tokens[-len(phrase) :] == phrase:
      tokens = tokens[: -len(phrase)]
      break
  unit = _read_unit(tokens, words)
  if unit is None:
    return None
  if currency:
    if unit and unit != currency and not unit.startswith('/'):
      unit = '' if unit.startswith(currency) else None
      if unit is None:
        return None
    rate = unit[1:] if unit.startswith('/') else ''
    return factor, currency + ('*' + rate if rate else '')
  return None if unit.startswith('/') else (factor, unit)


def _tokenize(tail):
  tokens, position = [], 0
  tail = DOTTED.sub('', tail)
  while position < len(tail):
    match = TOKEN.match(tail, position)
    if not match or len(tokens) > MAX_TAIL:
      return []
    tokens.append(re.sub(r'[{}]', '', match[0].strip()))
    position = match.end()
  return tokens


def _may_be_glued(word, words):
  if word in GLUED or word.lower() in words:
    return True
  names = [_name(word, words, False)] + [None]
  if len(word) < 3:
    return bool(words) and names[0] is not None and names[0] in words
  return names[0] is not None


def _read_unit(tokens, words):
  """The unit in normal form; '' if it is of no account; None if it is none. A
  text that begins with '/' is a rate alone."""
  if not tokens:
    return ''
  if tokens[0].lower() in PERCENT:
    rest = [x.lower() for x in tokens[1:]]
    if not rest:
      return '%'
    return f'% {rest[0]}' if len(rest) == 1 and rest[0] in DIRECTIONS else None
  if tokens[0] == 'per' and tokens[1:] == ['cent']:
    return '%'
  temperature = ''.join(tokens).lower().removeprefix('degrees')
  temperature = temperature.removeprefix('degree').removeprefix('deg')
  if temperature != ''.join(tokens).lower() or temperature in ('celsius',):
    if temperature in ('c', 'celsius', 'f', 'fahrenheit'):
      name = 'Celsius' if temperature[0] == 'c' else 'Fahrenheit'
      return 'degree' + name
  exponents, counted = {}, []
  sign = pending = 1
  is_rate = tokens[0] in PER
  depth = 0
  previous = ''
  for position, token in enumerate(tokens):
    lower = token.lower()
    if token in ('(', ')'):
      depth += 1 if token == '(' else -1
      if token == ')' and depth == 0:
        sign = 1
    elif token in ('*', '-'):
      if not previous:
        return None
    elif lower in PER and (token in ('/', 'per') or exponents or is_rate):
      sign = -1
    elif lower in AREA and lower[-1] != 'd':
      pending = AREA[lower]
    elif token[0] == '^' or lower in ('squared', 'cubed'):
      if not previous:
        return None
      times = AREA.get(lower) or int(token[1:])
      exponents[previous] *= times
      previous = ''
    else:
      name = _name(token, words, position == len(tokens) - 1)
      if name is None:
        return None
      for part in name.split(' ') if name[0] != '#' else [name]:
        part, _, power = part.partition('^')
        times = sign * pending * int(power or 1)
        exponents[part] = exponents.get(part, 0) + times
        previous = part
      pending = 1
      sign = sign if depth else 1
  if depth or pending != 1 and not exponents:
    return None
  things = [x for x in exponents if x[0] == '#']
  counted = ' '.join(x[1:] for x in things)
  rest = {
    x: n for x, n in exponents.items() if x[0] != '#' and x not in IGNORED
  }
  if counted and not rest:
    return '#' + counted
  money = [x for x in rest if x in CURRENCIES]
  order = money + sorted(x for x in rest if x not in money)
  if counted:
    order.append(counted)
    rest[counted] = exponents[things[0]]
  parts = [x if rest[x] == 1 else f'{x}^{rest[x]}' for x in order]
  return ('/' if is_rate else '') + '*'.join(parts)


def _name(word, words, is_last):
  """The normal name of a unit or of a counted thing ('#apple'), or None."""
  if word in CURRENCY_SIGNS:
    return CURRENCY_SIGNS[word]
  if word in COMPOUNDS:
    return COMPOUNDS[word]
  if word in SYMBOLS:
    return SYMBOLS[word]
  if word in ABBREVIATIONS:
    return ABBREVIATIONS[word]
  if len(word) > 1 and word[0] in PREFIXES and word[1:] in SYMBOLS:
    if word not in ('pm', 'cd', 'dl', 'mh', 'ch', 'dh', 'nh'):
      return PREFIXES[word[0]] + SYMBOLS[word[1:]]
  lower = PERSONS.get(word.lower().removesuffix('s'), word.lower())
  if lower in CURRENCY_WORDS:
    return CURRENCY_WORDS[lower]
  for name in (lower, lower.removesuffix('s'), lower.removesuffix('es')):
    if name in NAMES:
      return NAMES[name]
    if name in IGNORED:
      return 'unit'
    for prefix in LONG_PREFIXES:
      rest = name.removeprefix(prefix)
      if rest != name and rest in NAMES:
        return prefix + NAMES[rest]
  if lower in FUNCTIONS:
    return None
  if lower in COUNTED or lower + 's' in COUNTED or lower in words:
    return '#' + lower.removesuffix('s')
  if lower.removesuffix('s') in words or lower + 's' in words:
    return '#' + lower.removesuffix('s')
  return None
