"""The samples of a rollout, token by token, as arrays, as a table, and as a
page."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np

from r1jax import errors
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.evaluation import tables
from r1jax.reports import elements
from r1jax.rewards.pending import Rewards
from r1jax.sampling.generate import Samples

Name = Literal['adv', 'ratio', 'logp', 'entropy']
TITLES = dict(
  adv='advantage',
  ratio='log(ratio of the policy after the update to the one before)',
  logp='log-probability, as sampled',
  entropy='entropy of the policy before the update',
)
SHOWN = 16  # samples of a page
DARKEST = 0.95  # the share of tokens that are not darkest


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
  """A response. Its arrays are over the tokens after the prompt; they are 0 for
  tokens that were not sampled (mask False): results of a tool."""

  record: dict
  text: str
  reward: float
  rewards: dict[str, float]  # unweighted, by name
  finished: bool
  start: int  # the column of the first token
  ids: np.ndarray
  tokens: list[str]
  mask: np.ndarray
  logprobs: np.ndarray  # of the sampler
  advantages: np.ndarray  # 0 for a row that the update leaves out
  ratios: np.ndarray  # the policy after the update / before
  entropies: np.ndarray  # of the policy before the update


@dataclasses.dataclass(frozen=True, eq=False)
class RunSamples:
  """The rollout that an update learned from. Iterate or index it for its
  samples. In the arrays [B, L] column t is about token t; they are 0 where
  mask_BL, the sampled tokens, is False."""

  step: int
  samples: list[Sample]
  tokens_BL: np.ndarray
  mask_BL: np.ndarray
  logp_BL: np.ndarray
  adv_BL: np.ndarray
  ratio_BL: np.ndarray
  entropy_BL: np.ndarray

  def __len__(self) -> int:
    return len(self.samples)

  def __iter__(self) -> Iterator[Sample]:
    return iter(self.samples)

  def __getitem__(self, n: int) -> Sample:
    return self.samples[n]

  def __repr__(self) -> str:
    return f'RunSamples(step={self.step}, {len(self)} samples)'

  @property
  def table(self) -> Any:
    """A row a sample: a pandas DataFrame if pandas is installed, else a list of
    dicts."""
    rows = []
    for sample in self.samples:
      parts = {f'reward/{name}': x for name, x in sample.rewards.items()}
      row = dict(id=sample.record['id'], prompt=sample.record['prompt'])
      row |= dict(text=sample.text, reward=sample.reward) | parts
      sampled = sample.mask
      row |= dict(
        advantage=float(sample.advantages[sampled][0]),
        length=int(sampled.sum()),
        finished=sample.finished,
        logprob=float(sample.logprobs.sum()),
        ratio=float(sample.ratios[sampled].mean()),
        entropy=float(sample.entropies[sampled].mean()),
      )
      rows.append(row)
    return tables.data_frame(rows)

  def html(self, name: Name = 'adv', rows: Iterable[int] | None = None) -> str:
    """A page of samples with their tokens shaded by one of the arrays, blue
    above 0 and orange below; a token's tooltip has the number. The shade of
    'ratio' is that of its logarithm. `rows` are the numbers of the samples, by
    default the first 16."""
    if not isinstance(name, str) or name not in TITLES:
      raise errors.UserError(
        f'there is no array {name!r} to show: give one of {", ".join(TITLES)}'
      )
    rows = range(min(len(self), SHOWN)) if rows is None else rows
    if isinstance(rows, str) or not isinstance(rows, Iterable):
      raise errors.UserError(
        f'rows is {rows!r}: give the numbers of samples, such as rows=[0, 5]'
      )
    shown_BL = {
      'adv': self.adv_BL,
      'ratio': np.log(np.where(self.mask_BL, self.ratio_BL, 1)),
      'logp': self.logp_BL,
      'entropy': self.entropy_BL,
    }[name]
    # Not the largest, beside which most shades would be too light to see.
    largest = float(np.quantile(abs(shown_BL[self.mask_BL]), DARKEST))
    parts = [elements.note(f'step {self.step}: {TITLES[name]}')]
    for n in rows:
      if n not in range(-len(self), len(self)):
        raise errors.UserError(
          f'there is no sample {n!r}: rows can be 0 to {len(self) - 1}'
        )
      sample = self.samples[n]
      numbers = shown_BL[n, sample.start :][: len(sample.ids)]
      heading = f'{sample.record["id"]}: reward {sample.reward:.4g}'
      parts += [
        elements.note(f'{heading}, prompt {sample.record["prompt"]}'),
        elements.tokens(sample.tokens, numbers.tolist(), largest),
      ]
    return '\n'.join(parts)

  def _repr_html_(self) -> str:
    return self.html()


def make(
  step: int,
  tokenizer: Tokenizer,
  samples: Samples,
  rewards: Rewards,
  adv_BL: np.ndarray,
  ratio_BL: np.ndarray,
  entropy_BL: np.ndarray,
) -> RunSamples:
  """The RunSamples of a rollout; the arrays may have any values on tokens that
  were not sampled."""
  rows, mask_BL = samples.rows, samples.rows.mask_BL
  adv_BL, ratio_BL, entropy_BL = (
    np.where(mask_BL, a_BL, 0) for a_BL in (adv_BL, ratio_BL, entropy_BL)
  )
  found = []
  for n, text in enumerate(samples.texts):
    start, end = int(mask_BL[n].argmax()), int((rows.pos_BL[n] >= 0).sum())
    ids, parts = rows.tokens_BL[n, start:end], {}
    for name, part_N in rewards.parts.items():
      if not np.isnan(part_N[n]):
        parts[name] = float(part_N[n])
    found.append(
      Sample(
        record=dict(samples.records[n]),
        text=text,
        reward=float(rewards.reward_N[n]),
        rewards=parts,
        finished=bool(rows.finished_B[n]),
        start=start,
        ids=ids,
        tokens=[tokenizer.decode([i]) for i in ids],
        mask=mask_BL[n, start:end],
        logprobs=rows.logp_BL[n, start:end],
        advantages=adv_BL[n, start:end],
        ratios=ratio_BL[n, start:end],
        entropies=entropy_BL[n, start:end],
      )
    )
  return RunSamples(
    step=step,
    samples=found,
    tokens_BL=rows.tokens_BL,
    mask_BL=mask_BL,
    logp_BL=rows.logp_BL,
    adv_BL=adv_BL,
    ratio_BL=ratio_BL,
    entropy_BL=entropy_BL,
  )
