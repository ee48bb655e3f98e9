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

from r1jax.rewards.math import cleaning, han, unit_grammar, unit_names

FUNCTIONS = unit_names.FUNCTIONS
MAX_TAIL = 12  # tokens after a number

PREFIX_SIGN = re.compile(
  r'([+-]?) ?(US\$|HK\$|C\$|A\$|Rs\.? ?|(?:USD|EUR|GBP|CNY|RMB|INR) ?|'
  r'[$€£¥￥₹₽]) ?(?=[\d.\\({+-])'
)
TOKEN = re.compile(r' ?(?:[a-zA-ZΩμµ]+|\^\{?-?\d\}?|[%/*()$€£¥₹¢-])')
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
  short, long = sorted((unit, gold), key=len)
  if short == 'degree':
    return long in ('degreeCelsius', 'degreeFahrenheit')
  return short in unit_names.CURRENCIES and long.startswith(short + '*')


def compound(text: str) -> str | None:
  """The normal form of 2 hours and 30 minutes, or None: at least two whole
  numbers with units of one kind, the larger unit first."""
  pairs = COMPOUND.findall(text) if len(text) < 60 else []
  if len(pairs) < 2 or not COMPOUNDS_OF.fullmatch(text):
    return None
  names = [unit_grammar.name_of(word) for _, word in pairs]
  for kind in COMPOUND_UNITS:
    places = [kind.index(name) for name in names if name in kind]
    if len(places) == len(names):
      if places == sorted(set(places)):
        sizes = [f'{int(x)} {name}' for (x, _), name in zip(pairs, names)]
        return ' '.join(sizes)
  return None


def is_percent(unit: str) -> bool:
  return unit.startswith('%')


def _read_tail(tail, previous, currency, words):
  """(factor, unit) of what follows a number, or None for anything else."""
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
  unit = unit_grammar.read(tokens, words)
  if unit is None:
    return None
  if unit.startswith('/'):  # a rate alone, which money may have
    rate = unit.replace('/', '*', 1) if len(unit) > 1 else ''
    return (factor, currency + rate) if currency else None
  if currency and unit not in ('', currency):
    return None
  return factor, currency or unit


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
  name = unit_grammar.name_of(word, words)
  return name is not None and (len(word) > 2 or name in words)
