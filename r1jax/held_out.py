"""pass@1 on records that training never sees."""

import dataclasses

import numpy as np

from r1jax import errors, estimates, generate
from r1jax.config import option


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  every: int = option(50, 'steps between evaluations; 0: never', least=0)
  data: str = option('', "held-out records; '': held out of the data")
  held_out: int = option(128, 'prompts to hold out of the data', least=0)
  samples: int = option(4, 'samples a prompt', least=1)
  temperature: float = option(1.0, 'of the evaluation samples', least=0)


def check(c, weights):
  """Refuses what cannot be evaluated, with a sentence."""
  if c.every and 'accuracy' not in weights:
    raise errors.UserError(
      'pass@1 needs the accuracy reward: add it to config.rewards, with weight '
      '0 if it is not to be learnt from, or set config.eval.every=0'
    )
  if c.every and not c.data and not c.held_out:
    raise errors.UserError(
      'nothing is held out to evaluate on: set config.eval.held_out or '
      'config.eval.data, or config.eval.every=0'
    )


def evaluate(c, generator, params, records, key, max_new):
  """pass@1 with its 95 % interval, the share of groups without a signal, and
  the means of the samples."""
  samples = generator(
    params, records, np.arange(len(records)), key, c.samples, c.temperature,
    max_new,
  )  # fmt: skip
  grid = lambda x: x.reshape(-1, c.samples)
  total_NK = grid(samples.reward_N)
  right_NK = grid(samples.parts['accuracy'])
  low, high = estimates.interval(right_NK[~np.isnan(right_NK).any(axis=1)])
  line = generate.summary(samples)
  return {
    'eval/pass1': line.pop('reward/accuracy'),
    'eval/low': low,
    'eval/high': high,
    'eval/dead': estimates.alike(total_NK).mean(),
  } | {f'eval/{name}': x for name, x in line.items()}


def base_rate(line):
  """What the run starts from: a base that never succeeds cannot learn."""
  x = {name.removeprefix('eval/'): value for name, value in line.items()}
  return (
    f'base: pass@1 {x["pass1"]:.3f} [{x["low"]:.3f}, {x["high"]:.3f}], '
    f'{x["dead"]:.1%} of the groups without a signal, '
    f'length {x["length"]:.1f}, truncated {x["truncated"]:.1%}'
  )
