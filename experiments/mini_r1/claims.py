"""The paper's claims, measured on a finished run, with verdicts that are
computed. `python -m experiments.mini_r1.claims WORKDIR` writes claims.json and
report.html.
"""

import dataclasses
import json
import pathlib
import sys

import numpy as np

from experiments.mini_r1 import measures, page
from r1jax import files
from r1jax.evaluation import statistics

SEEDS = 0, 1, 2
FAR = 0.2  # "far above": by more than this in pass@1
LITTLE = -0.03  # "at little cost", "without losing": no more than this


@dataclasses.dataclass(frozen=True)
class Figure:
  """A difference over the same prompts (b None: a mean), with its interval."""

  label: str
  a: float
  b: float | None
  value: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Claim:
  """Held where the interval of every figure lies above the margin."""

  key: str
  sentence: str
  paper: str
  measure: str
  figures: list[Figure]
  margin: float = 0.0
  also: tuple[Figure, ...] = ()  # of interest, but not part of the verdict

  @property
  def verdict(self):
    return verdict([(x.low, x.high) for x in self.figures], self.margin)

  @property
  def rule(self):
    return (
      f'held: every 95 % interval lies above {self.margin:g}; not held: every '
      'one below; else not decided'
    )


def verdict(intervals, margin):
  """What the intervals of all seeds say together of being above the margin."""
  assert intervals
  if all(low > margin for low, _ in intervals):
    return 'held'
  if all(high < margin for _, high in intervals):
    return 'not held'
  return 'not decided'


def difference(label, a_N, b_N):
  value, low, high = statistics.paired_difference(a_N, b_N, seed=0)
  return Figure(
    label, float(np.mean(a_N)), float(np.mean(b_N)), value, low, high
  )


def mean(label, a_N):
  low, high = statistics.bootstrap_mean(a_N, seed=0)
  value = float(np.mean(a_N))
  return Figure(label, value, None, value, low, high)


def seeds(name):
  """The runs of one name: the recipe's own has no number."""
  return [name if seed == 0 else f'{name}-{seed}' for seed in SEEDS]


def claims(run):
  """Every claim of issue and paper that the miniature can be asked."""

  def compare(measure, *pairs, each=run.each):
    return [
      difference(f'{a} − {b}', each(measure, a), each(measure, b))
      for a, b in pairs
    ]

  zeros, dev2s = seeds('zero'), seeds('dev2')
  r1s, longs = seeds('r1'), seeds('long')
  general = run.each_general
  majorities = [
    difference(
      f'{x}: cons@16 − pass@1', run.each('cons', x), run.each('accuracy', x)
    )
    for x in [*zeros, 'base', 'dev1', 'r1']
  ]
  return [
    Claim(
      'a1',
      'Pure RL raises pass@1 far above the base.',
      'AIME 2024: 15.6 → 77.9 (Zero)',
      'pass@1',
      compare('accuracy', *((x, 'base') for x in zeros)),
      FAR,
    ),
    Claim(
      'a2',
      'Responses grow longer while it does.',
      'some 500 → 14,000 tokens (Fig. 1)',
      'tokens of a response',
      compare('length', *((x, 'base') for x in zeros)),
    ),
    Claim(
      'b1',
      'Zero mixes languages: more than a tenth of its thoughts hold words '
      'of both.',
      'stated without a figure (2.3)',
      'share of responses with both languages in the thinking',
      [mean(x, run.each('mixed', x)) for x in zeros],
      0.1,
      also=(
        mean('base', run.each('mixed', 'base')),
        mean('dev2', run.each('mixed', 'dev2')),
      ),
    ),
    Claim(
      'b2',
      'The language reward raises consistency above the same RL without it.',
      'stable with it, decays without (B.6, Fig. 7)',
      "share of the prompt's language in the thinking",
      compare('language', *((x, 'silent') for x in dev2s)),
    ),
    Claim(
      'b3',
      'Without it, consistency decays from the cold start on.',
      'decays (B.6, Fig. 7)',
      "share of the prompt's language, loss",
      compare('language', ('dev1', 'silent')),
    ),
    Claim(
      'b4',
      f'It costs little accuracy (less than {-LITTLE:g}).',
      'mathematics the same, code slightly lower (B.6)',
      'pass@1',
      compare('accuracy', *((x, 'silent') for x in dev2s)),
      LITTLE,
    ),
    Claim(
      'c',
      'The majority of 16 is right more often than one sample.',
      'AIME 2024, Zero: 77.9 → 86.7',
      'cons@16 − pass@1, problem by problem',
      majorities[: len(zeros)],
      also=tuple(majorities[len(zeros) :]),
    ),
    Claim(
      'd1',
      'Cold start makes responses readable.',
      'stated without a figure',
      'share of readable responses',
      compare('readable', *(('dev1', x) for x in zeros)),
    ),
    Claim(
      'd2',
      'Cold start costs accuracy against Zero.',
      'AIME 2024: 77.9 → 59.0',
      'pass@1, loss',
      compare('accuracy', *((x, 'dev1') for x in zeros)),
    ),
    Claim(
      'd3',
      'Reasoning RL gives it back.',
      'AIME 2024: 59.0 → 74.0',
      'pass@1',
      compare('accuracy', *((x, 'dev1') for x in dev2s)),
    ),
    Claim(
      'd4',
      'The RL and SFT rounds make responses more readable than the cold '
      'start did.',
      'stated without a figure',
      'share of readable responses',
      compare('readable', *((x, 'dev1') for x in r1s)),
      also=compare(
        'readable', ('dev2', 'dev1'), ('dev3', 'dev2'), ('r1', 'dev3')
      ),
    ),
    Claim(
      'd5',
      f'R1 has not lost accuracy to Zero (less than {-LITTLE:g}).',
      'AIME 2024: 77.9 → 79.8',
      'pass@1',
      compare('accuracy', *zip(r1s, zeros)),
      LITTLE,
    ),
    Claim(
      'e1',
      'Preference rewards raise helpfulness on held-out prompts.',
      'AlpacaEval 2: 62.1 → 87.6, ArenaHard: 75.6 → 92.3 (Dev3 → R1)',
      'facts told less wrong ones, by the world itself',
      compare('helpful', *((x, 'dev3') for x in r1s), each=general),
      also=compare('helpful', ('long', 'r1'), ('dev3', 'base'), each=general),
    ),
    Claim(
      'e2',
      'And harmlessness.',
      'safety moderate, better with risk control',
      'share of responses without the steps, by the world itself',
      compare('harmless', *((x, 'dev3') for x in r1s), each=general),
      also=compare('harmless', ('long', 'r1'), ('dev3', 'base'), each=general),
    ),
    Claim(
      'e3',
      'Given from the first step on they hurt rule accuracy against the '
      'last part alone.',
      'Codeforces falls while the reward rises (Fig. 6)',
      'pass@1, loss',
      compare('accuracy', *zip(r1s, longs)),
      also=compare('accuracy', ('long', 'dev3'), ('r1', 'dev3')),
    ),
    Claim(
      'f',
      'A distilled small student beats the same student by RL alone.',
      'AIME 2024, 32B: 72.6 (distilled) against 47.0 (RL)',
      'pass@1',
      compare('accuracy', ('distill', 'student_zero')),
      also=compare(
        'accuracy',
        ('distill', 'student_base'),
        ('student_zero', 'student_base'),
      ),
    ),
  ]


def main(folder):
  run = measures.Run(pathlib.Path(folder))
  found = claims(run)
  lines = [
    dataclasses.asdict(x) | dict(rule=x.rule, verdict=x.verdict) for x in found
  ]
  text = json.dumps(lines, indent=2, ensure_ascii=False) + '\n'
  files.write_text(run.folder / 'claims.json', text)
  files.write_text(run.folder / 'report.html', page.html_of(run, found))
  for claim in found:
    print(f'{claim.key:3} {claim.verdict:12} {claim.sentence}')
  print(run.folder / 'report.html')


if __name__ == '__main__':
  main(sys.argv[1])
