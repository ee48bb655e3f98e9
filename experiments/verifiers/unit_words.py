"""Writes r1jax/rewards/math/unit_words.py: the names of units that the math
verifier knows.

`python -m experiments.verifiers.unit_words GSM8K_TRAIN.jsonl` needs pint. Units
are those of pint's default registry that have a dimension and are no constant
of nature; counted things are the plural nouns after "how many" in the questions
of GSM8K's training set.
"""

import collections
import json
import pathlib
import re
import sys
import textwrap

TARGET = pathlib.Path(__file__, '../../../r1jax/rewards/math/unit_words.py')
# Names in pint that are other words in an answer.
AMBIGUOUS = """constant magneton radius mass cross_section gravity atomic planck
wien density conventional international _90 bohr hartree impedance avogadro
speed_of pole""".split()
NOT_UNITS = set(
  """count pi ln10 zeta percent permille ppm fifth quarter half hand link turn
strain shake shot gamma lambda grade point pole number_english number_meter
minim perch cicero didot tex nit line rem are barn chain bag gill span mark gal
scruple molar gray particle octave au mil thou dot pole perch pond candle
lmh rkm rhe rads tex""".split()
)
IRREGULAR = """people children men women fish sheep mice dice feet teeth geese
deer kids""".split()
NOT_COUNTED = set(
  """times does less was is has unless this his its dollars cents percents tens
hundreds thousands millions billions dozens scores halves thirds fourths fifths
sixths sevenths eighths ninths tenths hundredths thousandths quarters degrees
units pairs minus plus additionals various ones others lots days' digits sums
answers tens""".split()
)


def units() -> dict[str, list[str]]:
  """{name: other names} of pint's units with names of one word."""
  import pint

  registry = pint.UnitRegistry(cache_folder=None)
  found = {}
  for unit in registry._units.values():
    name = unit.name
    words = [x for x in (name, *unit.aliases) if _is_name(x)]
    words = [x.lower() for x in words if x.lower() not in NOT_UNITS]
    if name in NOT_UNITS or any(x in name for x in AMBIGUOUS) or not words:
      continue
    found[words[0]] = sorted(set(words[1:]))
  return found


def counted(path: str) -> list[str]:
  """The plural nouns after 'how many' that occur twice or more."""
  counts: collections.Counter[str] = collections.Counter()
  for line in pathlib.Path(path).read_text('utf-8').splitlines():
    question = json.loads(line)['question']
    counts.update(re.findall(r'[Hh]ow many ([a-z]+)', question))
  plurals = {x for x, n in counts.items() if n > 1 and x.endswith('s')}
  plurals -= {x for x in plurals if x.endswith('ss')}
  return sorted((plurals | set(IRREGULAR)) - NOT_COUNTED)


def main(path: str) -> None:
  lines = [
    '"""The names of units and of counted things, written by',
    '`experiments.verifiers.unit_words` from pint and GSM8K; not edited."""',
    '',
    '# name=other name=...',
    'UNITS = """',
  ]
  unit_names = []
  for name, others in sorted(units().items()):
    unit_names.append('='.join([name, *others]))
  lines += [*textwrap.wrap(' '.join(unit_names), 78), '"""', 'COUNTED = """']
  lines += textwrap.wrap(' '.join(counted(path)), 78)
  lines += ['"""', '']
  TARGET.resolve().write_text('\n'.join(lines), encoding='utf-8')


def _is_name(text):
  """Whether it is a word of three letters or more, not a symbol."""
  return re.fullmatch(r'[A-Za-z]{3,}', text)


if __name__ == '__main__':
  main(sys.argv[1])
