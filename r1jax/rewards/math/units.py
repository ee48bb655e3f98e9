"""The unit of an answer: money, percent, degrees, measures, English or Chinese."""

import re

FUNCTIONS = set('pi sqrt frac sin cos tan cot sec csc log ln exp'.split())
MONEY = re.compile(r'([+-]?) ?([$€£]) ?')
WORD = r'(?:[a-zA-Z]{2,}|[mgshlL])(?:\^\{?-?\d\}?)?'
UNIT = re.compile(
  r'(?:(?<=[\d)}.])|(?<=\\pi)(?! [hl]$)|(?<=[a-z])(?= (?:[cmk]?m|kg|ft)(?:\^\d)?$))'
  rf'(?: ?[%$€£]| {WORD}(?:[ /*]{WORD}){{0,3}}|(?:[cmk]m|kg|ft|mph)(?:\^\d)?)$'
)
UNITS = {
  **{'dollar': '$', 'euro': '€', 'percent': '%', 'degree': 'deg'},
  **{'meter': 'm', 'metre': 'm', 'centimeter': 'cm', 'centimetre': 'cm'},
  **{'kilometer': 'km', 'kilometre': 'km', 'inche': 'in', 'inch': 'in'},
  **{'foot': 'ft', 'feet': 'ft', 'gram': 'g', 'kilogram': 'kg', 'hour': 'h'},
  **{'hr': 'h', 'minute': 'min', 'second': 's', 'sec': 's', 'liter': 'l'},
  **{'litre': 'l', 'milliliter': 'ml', 'millimeter': 'mm', 'yard': 'yd'},
  **{'mile': 'mi', 'mph': 'mi/h', 'kph': 'km/h', 'pound': 'lb', 'ounce': 'oz'},
  **{'usd': '$', 'radian': 'rad', 'year': 'yr', 'sq': 'square', 'cu': 'cubic'},
}
MEASURES = set(UNITS.values()) | set(
  'mm dm nm mg gb mb kb hz pm am pt qt db kw ev pa kn ha'.split()
)
POWERS = (
  (re.compile(r'square ([a-z]+)|(?<!\d)([a-z]+) squared'), '^2'),
  (re.compile(r'cubic ([a-z]+)|(?<!\d)([a-z]+) cubed'), '^3'),
)
NO_UNITS = 'unit', 'unit^2', 'unit^3'
CHINESE = {
  **{
    '元': '¥',
    '美元': '$',
    '米': 'm',
    '厘米': 'cm',
    '毫米': 'mm',
    '度': 'deg',
  },
  **{'千米': 'km', '公里': 'km', '克': 'g', '千克': 'kg', '公斤': 'kg'},
  **{'小时': 'h', '分钟': 'min', '秒': 's', '升': 'l', '平方米': 'm^2'},
}
CHINESE_UNIT = re.compile(r'(?<=[\d)}]) ?([\u4e00-\u9fff]{1,4})$')
CHINESE_NOT_UNITS = set(
  '十百千万亿兆点又负分半是不非错没无至到约多余几以上下左右'
)
# A number before one of these is not a value with its unit.
NOT_UNITS = set(
  'plus minus times over less more than most least not about below above under '
  'is are was if mod base choose point zero negative squared cubed factorial '
  'half halves third thirds fourth fourths quarter quarters fifth fifths '
  'tenth tenths hundredth hundredths thousandth thousandths infinity '
  'dozen hundred thousand million billion trillion abc xyz pqr'.split()
).union(FUNCTIONS)


def split(text):
  """(the text without its unit, the unit's one name or '')."""
  core, unit = text, ''
  if match := MONEY.match(text):
    core, unit = match[1] + text[match.end() :], match[2]
  elif match := UNIT.search(text):
    words = re.sub(r'[{}]', '', match[0].strip().lower())
    named = re.sub('(?<=[a-z]) (?:squared|cubed)', '', words)
    if all(map(_may_be_unit, re.findall('[a-z]+', named))):
      core, unit = text[: match.start()], _one_name(words)
  elif match := CHINESE_UNIT.search(text):
    if match[1] in CHINESE or CHINESE_NOT_UNITS.isdisjoint(match[1]):
      core, unit = text[: match.start()], CHINESE.get(match[1], match[1])
  return core, '' if unit in NO_UNITS else unit


def _may_be_unit(word):
  """Not if it is a product, as in 3 xy; two letters must be known."""
  known = _unit_name(word) in MEASURES or len(word) != 2
  return word not in NOT_UNITS and known


def _one_name(words):
  """m/s^2 of "meters per second squared"."""
  words = words.replace(' per ', '/')
  words = re.sub('[a-z]+', lambda match: _unit_name(match[0]), words)
  for pattern, power in POWERS:
    words = pattern.sub(lambda m: (m[1] or m[2]) + power, words)
  return words


def _unit_name(word):
  stem = word.removesuffix('s') or word
  return UNITS.get(stem, stem)
