"""Chinese numbers and units."""

import re
from fractions import Fraction

MAX_POWER = 24  # of ten, in a number with 万 and 亿
MAX_DIGITS = 100
POWERS = {
  '十': 1,
  '百': 2,
  '千': 3,
  '万': 4,
  '萬': 4,
  '亿': 8,
  '億': 8,
  '兆': 12,
}
NUMBER = re.compile(
  r'((?:\d[\d,.]*[十百千]?[万萬亿億兆]+|\d+[千百](?![克米瓦卡赫帕焦伏]))+\d*)'
)
TERM = re.compile(r'(\d+(?:\.\d+)?)([十百千万萬亿億兆]+)|(\d+)$')
PERCENT = re.compile(r'([+-]?)百分之(.+)')
RATIO = re.compile(r'([+-]?)(\w+)分之(\w+)')
DIGITS = {c: n for n, c in enumerate('零一二三四五六七八九')} | {
  '〇': 0,
  '两': 2,
}
NUMERAL = re.compile(
  '[负]?[零〇一二两三四五六七八九十百千万亿]+(?:点[零〇一二三四五六七八九]+)?'
)
TAIL = re.compile(
  r'(?<=[\d)}%]) ?([\u4e00-\u9fff]{1,6}(?:/[\u4e00-\u9fff]{1,4})?)$'
)
UNITS = dict(
  pair.split('=')
  for pair in """元=¥ 块钱=¥ 人民币=¥ 美元=$ 欧元=€ 英镑=£ 角=角 分=分 米=meter
  厘米=centimeter 分米=decimeter 毫米=millimeter 千米=kilometer 公里=kilometer
  度=degree 克=gram 千克=kilogram 公斤=kilogram 毫克=milligram 吨=ton 斤=斤
  小时=hour 分钟=minute 秒=second 秒钟=second 天=day 日=day 周=week 星期=week
  月=month 年=year 升=liter 毫升=milliliter 平方米=meter^2 平方厘米=centimeter^2
  平方千米=kilometer^2 平方公里=kilometer^2 立方米=meter^3 立方厘米=centimeter^3
  亩=亩 公顷=hectare 岁=岁 个百分点=% 牛=newton 牛顿=newton 焦耳=joule 焦=joule
  瓦=watt 瓦特=watt 伏=volt 安=ampere 欧=ohm 欧姆=ohm 赫兹=hertz 帕=pascal
  摄氏度=degreeCelsius 弧度=radian 度角=degree 平方单位= 单位=""".split()
)
MEASURE_WORDS = set(
  """个 只 本 件 条 张 支 枝 名 位 台 辆 棵 朵 头 匹 把 根 块 片 颗 粒 箱 袋 瓶
  杯 盒 包 套 双 副 组 队 次 页 道 种 类 间 座 栋 层 排 行 列 人 步 题 份 面 艘
  架 盏 幅 首 封 户 家 届 届 圈 段 级 字""".split()
)
NOT_UNITS = set('十百千万亿兆点又负分半是不非错没无至到约多余几以上下左右或和')


def unit(text: str) -> str | None:
  """The normal form of a unit, as 元/千克 or 个; None if it is none."""
  above, _, below = text.partition('/')
  if below:
    parts = UNITS.get(above), UNITS.get(below)
    return f'{parts[0]}*{parts[1]}^-1' if all(parts) else None
  if text in UNITS:
    return UNITS[text]
  if NOT_UNITS.isdisjoint(text) and text[0] in MEASURE_WORDS:
    return '#' + text
  return None


def expand(text: str) -> str:
  """3.5万 as 35000, 1亿2000万 as 120000000, 百分之5 as 5%, 三分之一 as 1/3, and
  a numeral 十二 as 12."""
  if match := PERCENT.fullmatch(text):
    number = numeral(match[2])
    return f'{match[1]}{match[2] if number is None else _decimal(number)}%'
  if match := RATIO.fullmatch(text):
    below, above = numeral(match[2]), numeral(match[3])
    if above is not None and below:
      return f'{match[1]}{above}/{below}'
  number = numeral(text)
  if number is not None:
    return _decimal(number)
  match = NUMBER.search(text)
  if not match or match.start() and text[match.start() - 1] not in '+- $¥':
    return text
  number = _sum_of_terms(match[1])
  if number is None:
    return text
  return text[: match.start()] + str(number) + text[match.end() :]


def numeral(text: str) -> Fraction | None:
  """The value of a numeral in characters, 一百零五 or 三点五; None otherwise."""
  if len(text) > 20 or not NUMERAL.fullmatch(text):
    return None
  whole, _, decimals = text.removeprefix('负').partition('点')
  # 万 alone is none, and 一百二 may be 120.
  is_short = len(whole) > 1 and whole[-1] in DIGITS and whole[-2] in '百千万亿'
  if whole[0] not in DIGITS and whole[0] != '十' or is_short:
    return None
  total = section = digit = 0
  last = ''
  for char in whole:
    if char in DIGITS:
      if last in DIGITS and last not in '零〇':
        return None  # 一二 is no numeral
      digit = DIGITS[char]
    elif char in '万亿':
      total = (total + section + digit) * 10 ** POWERS[char]
      section = digit = 0
    else:
      section += (digit or (1 if last in ('', '零') else 0)) * 10 ** POWERS[
        char
      ]
      digit = 0
    last = char
  value = Fraction(total + section + digit)
  for n, char in enumerate(decimals, 1):
    value += Fraction(DIGITS[char], 10**n)
  return -value if text[0] == '负' else value


def _decimal(value):
  """A number with few decimals as text."""
  return str(value) if value.denominator == 1 else str(float(value))


def _sum_of_terms(text):
  terms = TERM.findall(text)
  if ''.join(a + b + c for a, b, c in terms) != text.replace(',', ''):
    return None
  total, last = Fraction(0), None
  for digits, powers, plain in terms:
    power = sum(POWERS[x] for x in powers)
    if power > MAX_POWER or len(digits + plain) > MAX_DIGITS:
      return None
    if last is not None and power >= last:
      return None
    total, last = total + Fraction(digits or plain) * 10**power, power
  return total if total.denominator == 1 else None
