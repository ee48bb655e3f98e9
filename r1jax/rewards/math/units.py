"""Splits the unit from an answer, in English or Chinese."""

import re

FUNCTIONS = set('pi sqrt frac sin cos tan cot sec csc log ln exp'.split())
MONEY = re.compile(r'([+-]?) ?([$€£]) ?')
WORD = r'(?:[a-zA-Z]{2,}|[mgshlL])(?:\^\{?-?\d\}?)?'
UNIT = re.compile(
  r'(?:(?<=[\d)}.])|(?<=\\pi)(?! [hl]$)|'
  r'(?<=[a-z])(?= (?:[cmk]?m|kg|ft)(?:\^\d)?$))'
  rf'(?: ?[%$€£]| {WORD}(?:[ /*]{WORD}){{0,3}}|(?:[cmk]m|kg|ft|mph)(?:\^\d)?)$'
)
PAIRS = """dollar=$ usd=$ euro=€ percent=% degree=deg radian=rad meter=m metre=m
centimeter=cm centimetre=cm millimeter=mm kilometer=km kilometre=km inche=in
inch=in foot=ft feet=ft yard=yd mile=mi mph=mi/h kph=km/h gram=g kilogram=kg
pound=lb ounce=oz liter=l litre=l milliliter=ml second=s sec=s minute=min hour=h
hr=h year=yr sq=square cu=cubic 元=¥ 美元=$ 米=m 厘米=cm 毫米=mm 千米=km 公里=km
度=deg 克=g 千克=kg 公斤=kg 小时=h 分钟=min 秒=s 升=l 平方米=m^2"""
SYMBOLS = dict(pair.split('=') for pair in PAIRS.split())
MEASURES = set('mm dm nm mg gb mb kb hz pm am pt qt db kw ev pa kn ha'.split())
MEASURES |= set(SYMBOLS.values())
IGNORED = 'unit', 'unit^2', 'unit^3'
CHINESE_UNIT = re.compile(r'(?<=[\d)}]) ?([\u4e00-\u9fff]{1,4})$')
HAN_NOT_UNITS = set('十百千万亿兆点又负分半是不非错没无至到约多余几以上下左右')
# A number before one of these is not a value with its unit.
NOT_UNITS = FUNCTIONS | set(
  """plus minus times over less more than most least
not about below above under is are was if mod base choose point zero negative
squared cubed factorial half halves third thirds fourth fourths quarter quarters
fifth fifths tenth tenths hundredth hundredths thousandth thousandths infinity
dozen hundred thousand million billion trillion abc xyz pqr""".split()
)


def split(text: str) -> tuple[str, str]:
  """(the text without its unit, the symbol of the unit or '')."""
  number, unit = text, ''
  if match := MONEY.match(text):
    number, unit = match[1] + text[match.end() :], match[2]
  elif match := UNIT.search(text):
    words = re.sub(r'[{}]', '', match[0].strip().lower())
    named = re.sub('(?<=[a-z]) (?:squared|cubed)', '', words)
    if all(map(_may_be_unit, re.findall('[a-z]+', named))):
      number, unit = text[: match.start()], _symbols(words)
  elif match := CHINESE_UNIT.search(text):
    if match[1] in SYMBOLS or HAN_NOT_UNITS.isdisjoint(match[1]):
      number, unit = text[: match.start()], SYMBOLS.get(match[1], match[1])
  return number, '' if unit in IGNORED else unit


def _may_be_unit(word):
  """Two letters must be a known unit: 3 xy is a product."""
  is_long = len(word) != 2
  return word not in NOT_UNITS and (is_long or _symbol(word) in MEASURES)


def _symbols(words):
  """m/s^2 for "meters per second squared"."""
  words = words.replace(' per ', '/')
  words = re.sub('[a-z]+', lambda match: _symbol(match[0]), words)
  words = re.sub(r'square ([a-z]+)|(?<!\d)([a-z]+) squared', r'\1\2^2', words)
  return re.sub(r'cubic ([a-z]+)|(?<!\d)([a-z]+) cubed', r'\1\2^3', words)


def _symbol(word):
  singular = word.removesuffix('s') or word
  return SYMBOLS.get(singular, singular)
