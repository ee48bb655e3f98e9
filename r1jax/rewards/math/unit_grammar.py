"""The grammar of units: factors with powers, joined by *, / or per, spaces.

unit = factor {('*' | '/' | 'per' | ' ') factor}
factor = ['square' | 'cubic'] name ['^' n | 'squared' | 'cubed'] | '(' unit ')'
"""

from collections.abc import Collection, Sequence

from r1jax.rewards.math import unit_names
from r1jax.rewards.math.unit_names import CURRENCIES

TEMPERATURES = dict(c='Celsius', celsius='Celsius')
TEMPERATURES |= dict(f='Fahrenheit', fahrenheit='Fahrenheit')
NOT_PREFIXED = 'pm', 'cd', 'ch', 'dh', 'mh', 'nh'


def read(tokens: Sequence[str], words: Collection[str]) -> str | None:
  """The unit of the tokens after a number, in the normal form of units.py; ''
  if it is of no account; None if they are none. A text that begins with '/' is
  a rate alone, as 'per hour'."""
  if not tokens:
    return ''
  lower = [token.lower() for token in tokens]
  if lower[0] in unit_names.PERCENT or lower == ['per', 'cent']:
    return _read_percent(lower)
  if temperature := _read_temperature(lower):
    return temperature
  exponents = _read_factors(tokens, words)
  if exponents is None:
    return None
  is_rate = tokens[0] in unit_names.PER
  return ('/' if is_rate else '') + _normal(exponents)


def name_of(word: str, words: Collection[str] = ()) -> str | None:
  """The normal name of a unit or of a counted thing ('#apple'), or None."""
  for table in unit_names.SHORT:
    if word in table:
      return table[word]
  symbol, prefix = word[1:], unit_names.PREFIXES.get(word[:1])
  if prefix and symbol in unit_names.SYMBOLS and word not in NOT_PREFIXED:
    return prefix + unit_names.SYMBOLS[symbol]
  lower = word.lower()
  lower = unit_names.PERSONS.get(lower.removesuffix('s'), lower)
  if lower in unit_names.CURRENCY_WORDS:
    return unit_names.CURRENCY_WORDS[lower]
  singular = lower.removesuffix('s')
  for name in (lower, singular, lower.removesuffix('es')):
    if name in unit_names.NAMES:
      return unit_names.NAMES[name]
    for prefix in unit_names.LONG_PREFIXES:
      if name.startswith(prefix) and name[len(prefix) :] in unit_names.NAMES:
        return prefix + unit_names.NAMES[name[len(prefix) :]]
  if singular == unit_names.IGNORED:
    return singular
  if lower in unit_names.FUNCTIONS:
    return None
  known = unit_names.COUNTED
  for name in (lower, lower + 's', singular):
    if name in words or name in known and name != singular:
      return '#' + singular
  return '#' + singular if lower in known else None


def _read_percent(lower):
  """'%', or '% increase' with what the percentage is of."""
  rest = lower[2:] if lower[0] == 'per' else lower[1:]
  if not rest:
    return '%'
  is_known = len(rest) == 1 and rest[0] in unit_names.DIRECTIONS
  return f'% {rest[0]}' if is_known else None


def _read_temperature(lower):
  """degreeCelsius of ° C, degrees Celsius and Celsius; else None."""
  scale = ''.join(lower)
  for prefix in ('degrees', 'degree', 'deg'):
    scale = scale.removeprefix(prefix)
  is_named = len(scale) > 1 or scale != ''.join(lower)
  if is_named and scale in TEMPERATURES:
    return 'degree' + TEMPERATURES[scale]
  return None


def _read_factors(tokens, words):
  """{name: exponent}, or None if the tokens are no unit."""
  exponents: dict[str, int] = {}
  sign = size = 1  # of the next factor
  depth, last = 0, ''  # open brackets; the last name
  for token in tokens:
    lower = token.lower()
    if token in '()':
      depth += 1 if token == '(' else -1
      sign = sign if depth else 1
    elif token in '*-':
      if not last:
        return None
    elif token in unit_names.PER:
      sign = -1
    elif lower in ('square', 'sq', 'cubic', 'cu'):
      size = unit_names.AREA[lower]
    elif token[0] == '^' or lower in unit_names.AREA:
      if not last:
        return None
      exponents[last] *= unit_names.AREA.get(lower) or int(token[1:])
      last = ''
    else:
      name = name_of(token, words)
      if name is None:
        return None
      for part in name.split(' '):
        last, _, power = part.partition('^')
        power = int(power or 1) * size * sign
        exponents[last] = exponents.get(last, 0) + power
      size, sign = 1, sign if depth else 1
  is_open = depth != 0 or size != 1
  return None if is_open else exponents


def _normal(exponents):
  """Money first, then units by name, then counted things."""
  things = [name for name in exponents if name[0] == '#']
  units = [x for x in exponents if x[0] != '#' and x != unit_names.IGNORED]
  if things and not units:
    return '#' + ' '.join(name[1:] for name in things)
  units.sort(key=lambda name: (name not in CURRENCIES, name))
  parts = []
  for name in units + things:
    power = exponents[name]
    parts.append(name if power == 1 else f'{name}^{power}')
  return '*'.join(parts)
