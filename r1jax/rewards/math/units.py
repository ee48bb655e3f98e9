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

from r1jax.rewards.math import cleaning, han, unit_names

FUNCTIONS = unit_names.FUNCTIONS
MAX_TAIL = 12  # tokens after a number

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
  return frozenset(words - unit_names.NOT_UNITS - unit_names.MULTIPLIERS.keys())


def split(text: str, words: Collection[str] = ()) -> Quantity:
  """The parts of a quantity. `words` are those of the gold answer."""
  text = text.strip()
  if not text.isascii():
    text = han.expand(text)
  text = FRACTION.sub(r' \1/(\2)', text)
  currency = ''
  if match := PREFIX_SIGN.match(text):
    currency = unit_names.CURRENCY_SIGNS[match[2].strip()]
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
  return short in unit_names.CURRENCIES and long.startswith(short + '*')


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
  while tokens and tokens[0].lower() in unit_names.MULTIPLIERS:
    factor *= unit_names.MULTIPLIERS[tokens.pop(0).lower()]
    if tokens and tokens[0] == 'of':
      tokens.pop(0)
  if factor != 1 and after_letter and previous != 'i':
    return None  # x million
  for phrase in unit_names.TOTALS:
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
  if word in unit_names.GLUED or word.lower() in words:
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
  if tokens[0].lower() in unit_names.PERCENT:
    rest = [x.lower() for x in tokens[1:]]
    if not rest:
      return '%'
    return (
      f'% {rest[0]}'
      if len(rest) == 1 and rest[0] in unit_names.DIRECTIONS
      else None
    )
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
  is_rate = tokens[0] in unit_names.PER
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
    elif lower in unit_names.PER and (
      token in ('/', 'per') or exponents or is_rate
    ):
      sign = -1
    elif lower in unit_names.AREA and lower[-1] != 'd':
      pending = unit_names.AREA[lower]
    elif token[0] == '^' or lower in ('squared', 'cubed'):
      if not previous:
        return None
      times = unit_names.AREA.get(lower) or int(token[1:])
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
    x: n
    for x, n in exponents.items()
    if x[0] != '#' and x not in unit_names.IGNORED
  }
  if counted and not rest:
    return '#' + counted
  money = [x for x in rest if x in unit_names.CURRENCIES]
  order = money + sorted(x for x in rest if x not in money)
  if counted:
    order.append(counted)
    rest[counted] = exponents[things[0]]
  parts = [x if rest[x] == 1 else f'{x}^{rest[x]}' for x in order]
  return ('/' if is_rate else '') + '*'.join(parts)


def _name(word, words, is_last):
  """The normal name of a unit or of a counted thing ('#apple'), or None."""
  if word in unit_names.CURRENCY_SIGNS:
    return unit_names.CURRENCY_SIGNS[word]
  if word in unit_names.COMPOUNDS:
    return unit_names.COMPOUNDS[word]
  if word in unit_names.SYMBOLS:
    return unit_names.SYMBOLS[word]
  if word in unit_names.ABBREVIATIONS:
    return unit_names.ABBREVIATIONS[word]
  if (
    len(word) > 1
    and word[0] in unit_names.PREFIXES
    and word[1:] in unit_names.SYMBOLS
  ):
    if word not in ('pm', 'cd', 'dl', 'mh', 'ch', 'dh', 'nh'):
      return unit_names.PREFIXES[word[0]] + unit_names.SYMBOLS[word[1:]]
  lower = unit_names.PERSONS.get(word.lower().removesuffix('s'), word.lower())
  if lower in unit_names.CURRENCY_WORDS:
    return unit_names.CURRENCY_WORDS[lower]
  for name in (lower, lower.removesuffix('s'), lower.removesuffix('es')):
    if name in unit_names.NAMES:
      return unit_names.NAMES[name]
    if name in unit_names.IGNORED:
      return 'unit'
    for prefix in unit_names.LONG_PREFIXES:
      rest = name.removeprefix(prefix)
      if rest != name and rest in unit_names.NAMES:
        return prefix + unit_names.NAMES[rest]
  if lower in FUNCTIONS:
    return None
  if (
    lower in unit_names.COUNTED
    or lower + 's' in unit_names.COUNTED
    or lower in words
  ):
    return '#' + lower.removesuffix('s')
  if lower.removesuffix('s') in words or lower + 's' in words:
    return '#' + lower.removesuffix('s')
  return None
