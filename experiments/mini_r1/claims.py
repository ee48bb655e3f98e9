"""The claims of the paper, measured on a finished run of the miniature.

A verdict is computed from intervals by a fixed rule. `python -m
experiments.mini_r1.claims WORKDIR` writes claims.json and report.html.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Iterable, Sequence

import numpy as np

from experiments.mini_r1 import measures, page
from r1jax import files

SEEDS = 0, 1, 2
LARGE = 0.2  # margin of a large gain in pass@1
SMALL_LOSS = -0.03  # margin of a small loss of pass@1


@dataclasses.dataclass(frozen=True)
class Figure:
  """A mean over prompts with its 95 % interval: of a - b, or of a if b is
  None."""

  label: str
  a: float
  b: float | None
  value: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Claim:
  """A claim of the paper and its figures, one for each seed."""

  key: str
  sentence: str
  paper: str  # the paper's figures
  measure: str
  figures: list[Figure]
  margin: float = 0.0
  also: Sequence[Figure] = ()  # shown, but not part of the verdict

  @property
  def verdict(self) -> str:
    return verdict([(x.low, x.high) for x in self.figures], self.margin)

  @property
  def rule(self) -> str:
    return (
      f'supported: every 95 % interval lies above {self.margin:g}; '
      'contradicted: every one lies below; otherwise undecided'
    )


def verdict(intervals: Sequence[tuple[float, float]], margin: float) -> str:
  """Whether the intervals of all seeds lie above the margin."""
  assert intervals
  if all(low > margin for low, _ in intervals):
    return 'supported'
  if all(high < margin for _, high in intervals):
    return 'contradicted'
  return 'undecided'


def difference(
  label: str, measure: str, a_P: np.ndarray, b_P: np.ndarray
) -> Figure:
  """The paired difference a - b of a measure over the same prompts."""
  low, high = measures.difference_interval(measure, a_P, b_P)
  return Figure(
    label=label,
    a=float(np.mean(a_P)),
    b=float(np.mean(b_P)),
    value=float(np.mean(a_P - b_P)),
    low=low,
    high=high,
  )


def mean(label: str, measure: str, a_P: np.ndarray) -> Figure:
  low, high = measures.mean_interval(measure, a_P)
  value = float(np.mean(a_P))
  return Figure(label=label, a=value, b=None, value=value, low=low, high=high)


def seeds(name: str) -> list[str]:
  """The runs of one name; that of seed 0 has no number."""
  return [name if seed == 0 else f'{name}-{seed}' for seed in SEEDS]


def compare(
  run: measures.Run, measure: str, pairs: Iterable[tuple[str, str]]
) -> list[Figure]:
  """The differences of a measure between pairs of models."""
  means = run.means
  if measure in measures.GENERAL:
    means = run.general_means
  return [
    difference(f'{a} − {b}', measure, means(measure, a), means(measure, b))
    for a, b in pairs
  ]


def majority_gain(run: measures.Run, models: Iterable[str]) -> list[Figure]:
  """cons@16 - pass@1 of some models."""
  return [
    difference(
      f'{model}: cons@16 − pass@1',
      'accuracy',
      run.means('majority', model),
      run.means('accuracy', model),
    )
    for model in models
  ]


def make_claims(run: measures.Run) -> list[Claim]:
  """All claims that the miniature can measure, ordered by key."""
  claims = [
    *zero_claims(run),
    *language_claims(run),
    *pipeline_claims(run),
    *preference_claims(run),
    distillation_claim(run),
  ]
  return sorted(claims, key=lambda claim: claim.key)


def zero_claims(run: measures.Run) -> list[Claim]:
  """Claims about R1-Zero."""
  zeros = seeds('zero')
  pairs = [(zero, 'base') for zero in zeros]
  return [
    Claim(
      key='a1',
      sentence=f'Pure RL raises pass@1 by more than {LARGE:g} over the base '
      'model.',
      paper='AIME 2024: 15.6 → 77.9 (Zero)',
      measure='pass@1',
      figures=compare(run, 'accuracy', pairs),
      margin=LARGE,
    ),
    Claim(
      key='a2',
      sentence='Responses become longer at the same time.',
      paper='about 500 → 14,000 tokens (Fig. 1)',
      measure='tokens of a response',
      figures=compare(run, 'length', pairs),
    ),
    Claim(
      key='b1',
      sentence='Zero mixes languages: more than a tenth of its thoughts have '
      'words of both.',
      paper='stated without a figure (2.3)',
      measure='share of responses with both languages in the thinking',
      figures=[mean(zero, 'mixed', run.means('mixed', zero)) for zero in zeros],
      margin=0.1,
      also=[mean(x, 'mixed', run.means('mixed', x)) for x in ('base', 'dev2')],
    ),
    Claim(
      key='c',
      sentence='The majority vote of 16 samples is correct more often than one '
      'sample.',
      paper='AIME 2024, Zero: 77.9 → 86.7',
      measure='cons@16 − pass@1, problem by problem',
      figures=majority_gain(run, zeros),
      also=majority_gain(run, ['base', 'dev1', 'r1']),
    ),
  ]


def language_claims(run: measures.Run) -> list[Claim]:
  """Claims about the language consistency reward. The run no_language is Dev2
  without it."""
  pairs = [(dev2, 'no_language') for dev2 in seeds('dev2')]
  return [
    Claim(
      key='b2',
      sentence='The language reward raises consistency over the same RL '
      'without it.',
      paper='stable with it, decays without (B.6, Fig. 7)',
      measure="share of the prompt's language in the thinking",
      figures=compare(run, 'language', pairs),
    ),
    Claim(
      key='b3',
      sentence='Without it, consistency decays after the cold start.',
      paper='decays (B.6, Fig. 7)',
      measure="loss of the share of the prompt's language",
      figures=compare(run, 'language', [('dev1', 'no_language')]),
    ),
    Claim(
      key='b4',
      sentence=f'It costs less than {-SMALL_LOSS:g} of accuracy.',
      paper='mathematics equal, code slightly lower (B.6)',
      measure='pass@1',
      figures=compare(run, 'accuracy', pairs),
      margin=SMALL_LOSS,
    ),
  ]


def pipeline_claims(run: measures.Run) -> list[Claim]:
  """Claims about the stages from the cold start to R1."""
  zeros, dev2s, r1s = seeds('zero'), seeds('dev2'), seeds('r1')
  return [
    Claim(
      key='d1',
      sentence='The cold start makes responses readable.',
      paper='stated without a figure',
      measure='share of readable responses',
      figures=compare(run, 'readable', [('dev1', zero) for zero in zeros]),
    ),
    Claim(
      key='d2',
      sentence='After the cold start accuracy is lower than that of Zero.',
      paper='AIME 2024: 77.9 → 59.0',
      measure='loss of pass@1',
      figures=compare(run, 'accuracy', [(zero, 'dev1') for zero in zeros]),
    ),
    Claim(
      key='d3',
      sentence='Reasoning RL raises it again.',
      paper='AIME 2024: 59.0 → 74.0',
      measure='pass@1',
      figures=compare(run, 'accuracy', [(dev2, 'dev1') for dev2 in dev2s]),
    ),
    Claim(
      key='d4',
      sentence='The later RL and SFT stages make responses more readable than '
      'the cold start.',
      paper='stated without a figure',
      measure='share of readable responses',
      figures=compare(run, 'readable', [(r1, 'dev1') for r1 in r1s]),
      also=compare(
        run,
        'readable',
        [('dev2', 'dev1'), ('dev3', 'dev2'), ('r1', 'dev3')],
      ),
    ),
    Claim(
      key='d5',
      sentence=f'R1 loses less than {-SMALL_LOSS:g} of accuracy to Zero.',
      paper='AIME 2024: 77.9 → 79.8',
      measure='pass@1',
      figures=compare(run, 'accuracy', zip(r1s, zeros)),
      margin=SMALL_LOSS,
    ),
  ]


def preference_claims(run: measures.Run) -> list[Claim]:
  """Claims about the reward models. The run early_preferences is R1 with their
  rewards from the first step on."""
  early = 'early_preferences'
  r1s = seeds('r1')
  pairs = [(r1, 'dev3') for r1 in r1s]
  also = [(early, 'r1'), ('dev3', 'base')]
  return [
    Claim(
      key='e1',
      sentence='Preference rewards raise helpfulness on held-out prompts.',
      paper='AlpacaEval 2: 62.1 → 87.6, ArenaHard: 75.6 → 92.3 (Dev3 → R1)',
      measure='true facts less false ones, by the rules of the data',
      figures=compare(run, 'helpful', pairs),
      also=compare(run, 'helpful', also),
    ),
    Claim(
      key='e2',
      sentence='They raise harmlessness, too.',
      paper='safety moderate, better with risk control',
      measure='share of responses without steps, by the rules of the data',
      figures=compare(run, 'harmless', pairs),
      also=compare(run, 'harmless', also),
    ),
    Claim(
      key='e3',
      sentence='From the first step on, they reduce rule accuracy compared '
      'with the last part alone.',
      paper='Codeforces falls while the reward rises (Fig. 6)',
      measure='loss of pass@1',
      figures=compare(run, 'accuracy', zip(r1s, seeds(early))),
      also=compare(run, 'accuracy', [(early, 'dev3'), ('r1', 'dev3')]),
    ),
  ]


def distillation_claim(run: measures.Run) -> Claim:
  return Claim(
    key='f',
    sentence='A distilled small student is better than the same student '
    'trained by RL alone.',
    paper='AIME 2024, 32B: 72.6 (distilled), 47.0 (RL)',
    measure='pass@1',
    figures=compare(run, 'accuracy', [('distill', 'student_zero')]),
    also=compare(
      run,
      'accuracy',
      [('distill', 'student_base'), ('student_zero', 'student_base')],
    ),
  )


def main(folder: str) -> None:
  run = measures.Run(pathlib.Path(folder))
  claims = make_claims(run)
  lines = [
    dataclasses.asdict(claim) | dict(rule=claim.rule, verdict=claim.verdict)
    for claim in claims
  ]
  text = json.dumps(lines, indent=2, ensure_ascii=False) + '\n'
  files.write_text(run.folder / 'claims.json', text)
  files.write_text(run.folder / 'report.html', page.html_of(run, claims))
  for claim in claims:
    print(f'{claim.key:3} {claim.verdict:12} {claim.sentence}')
  print(run.folder / 'report.html')


if __name__ == '__main__':
  main(sys.argv[1])
