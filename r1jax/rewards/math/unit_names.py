"""Tables of units, currencies and multipliers, and the words that are none."""

from fractions import Fraction

from r1jax.rewards.math import unit_words

FUNCTIONS = set('pi sqrt frac sin cos tan cot sec csc log ln exp'.split())


def _pairs(text: str) -> dict[str, str]:
  """{key: value} of 'key=value …', where * in a value is a space."""
  pairs = (pair.partition('=') for pair in text.split())
  return {key: value.replace('*', ' ') for key, _, value in pairs}


SYMBOLS = _pairs(
  """m=meter s=second g=gram h=hour l=liter L=liter A=ampere K=kelvin N=newton
  J=joule W=watt V=volt C=coulomb F=farad T=tesla H=henry Ω=ohm Pa=pascal
  Hz=hertz Wb=weber Bq=becquerel eV=electronvolt mol=mole rad=radian
  cal=calorie bar=bar"""
)
PREFIXES = _pairs(
  """k=kilo c=centi m=milli d=deci M=mega G=giga n=nano μ=micro µ=micro"""
)
ABBREVIATIONS = _pairs(
  """hr=hour hrs=hour min=minute mins=minute secs=second yr=year yrs=year
  ft=foot yd=yard mi=mile lb=pound lbs=pound oz=ounce gal=gallon qt=quart
  pt=pint tsp=teaspoon amp=ampere tbsp=tablespoon ha=hectare deg=degree
  atm=atmosphere kilos=kilogram KB=kilobyte MB=megabyte GB=gigabyte
  dB=decibel wk=week wks=week km=kilometer inch=inch in=inch"""
)
COMPOUNDS = _pairs(
  """mph=mile*hour^-1 kph=kilometer*hour^-1 kmh=kilometer*hour^-1
  kWh=kilowatt*hour rpm=revolution*minute^-1 psi=pound*inch^-2
  Nm=newton*meter cc=centimeter^3 sqft=foot^2"""
)
LONG_PREFIXES = 'kilo centi milli deci mega giga micro nano'.split()
CURRENCY_SIGNS = _pairs(
  """$=$ €=€ £=£ ¥=¥ ￥=¥ ₹=₹ ₽=₽ US$=$ USD=$ EUR=€ GBP=£ CNY=¥ RMB=¥ INR=₹
  ¢=cent Rs.=₹ Rs=₹ HK$=HK$ C$=C$ A$=A$"""
)
CURRENCY_WORDS = _pairs(
  """dollar=$ dollars=$ usd=$ buck=$ bucks=$ euro=€ euros=€ eur=€ gbp=£ yuan=¥
  rmb=¥ cny=¥ rupee=₹ rupees=₹ inr=₹ yen=yen peso=peso pesos=peso ruble=₽
  rubles=₽ won=won cent=cent cents=cent penny=cent pence=pence
  shilling=shilling shillings=shilling franc=franc francs=franc"""
)
SHORT = CURRENCY_SIGNS, COMPOUNDS, SYMBOLS, ABBREVIATIONS
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
IGNORED = 'unit'
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
COUNTED = set(unit_words.COUNTED.split()) | set(
  """ways solutions numbers digits values integers triangles combinations
  permutations arrangements possibilities subsets outcomes primes divisors games
  matches teams""".split()
)
GLUED = set('cm km mm kg ft mph kph mL ml kWh Hz rpm lb lbs oz hr hrs'.split())
