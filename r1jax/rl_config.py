"""What an rl run is told to do: its keys, the records that it reads, and what
is refused before anything is computed."""

from __future__ import annotations

import dataclasses

from r1jax import (
  data,
  errors,
  generate,
  grpo,
  held_out,
  parallel,
  policy,
  rewards,
  sample,
  tasks,
  train,
  verifiers,
)
from r1jax.config import option


@dataclasses.dataclass(frozen=True)
class Config:
  init: str = option('', "a model's directory, GGUF file or hub name")
  prompts: str = option('', 'records: a path, toy:… or gym:…')
  steps: int = option(100, 'optimiser steps', least=1)
  longer: tuple[tuple[int, int], ...] = option(
    (), 'pairs (step, sample.max_new from there on)'
  )
  micro: int = option(
    16, 'rows whose gradient is computed at one time', least=1
  )
  buckets: int = option(4, 'row lengths to pad to', least=1)
  seed: int = option(0, 'of everything that is drawn', least=0)
  save_every: int = option(50, 'steps between checkpoints', least=1)
  keep: int = option(2, 'newest checkpoints that are kept', least=1)
  best: int = option(
    1, 'checkpoints of best held-out pass@1 that are kept', least=0
  )
  log_samples: int = option(
    4, 'sample texts to write down each rollout', least=0
  )
  rewards: dict[str, float] = option(
    dict(accuracy=1.0, format=1.0), 'weights by name'
  )
  by_domain: dict[str, dict[str, float]] = option(
    {}, 'weights for the records of a domain, in the place of those above'
  )
  domains_from: int = option(
    0, 'step from which records of these domains are drawn', least=0
  )
  reward_models: dict[str, str] = option(
    {}, 'name of a reward: directory of the model that gives it'
  )
  teacher: str = option(
    '',
    "a model in the reference's place: its policy is distilled into this one",
  )
  eval: held_out.EvalConfig = held_out.EvalConfig()
  prompt: generate.PromptConfig = generate.PromptConfig()
  sample: sample.SampleConfig = sample.SampleConfig()
  grpo: grpo.GrpoConfig = grpo.GrpoConfig()
  verify: verifiers.VerifyConfig = verifiers.VerifyConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  optim: train.OptimConfig = train.OptimConfig()
  parallel: parallel.ParallelConfig = parallel.ParallelConfig()

  @property
  def lengths(self):
    """The most tokens of a response, at the start and later."""
    return [self.sample.max_new] + [new for _, new in self.longer]


def check(c, *places):
  """Refuses what cannot work, with a sentence."""
  held_out.check(c.eval, c.rewards)
  grpo.check(c.grpo, c.compute.dtype)
  starts = [step for step, _ in c.longer]
  shortest = min(c.lengths)
  if c.sample.top_p < 1 or c.sample.top_k:
    raise errors.UserError(
      'config.sample.top_p and top_k cut the distribution that the loss takes '
      'the samples to be drawn from: set them to 1 and 0 for rl'
    )
  if c.sample.temperature <= 0:
    raise errors.UserError('config.sample.temperature must be above 0 for rl')
  if not all(c.prompt.stop + c.sample.stops):
    raise errors.UserError(
      'config.prompt.stop or config.sample.stops has an empty entry, which '
      'would end every response at once: leave it out'
    )
  if starts != sorted(starts) or shortest < 1:
    raise errors.UserError(
      f'config.longer is {c.longer}: its steps must rise and its lengths be at '
      'least 1'
    )
  if c.grpo.overlong_cache > shortest:
    raise errors.UserError(
      f'config.grpo.overlong_cache is {c.grpo.overlong_cache}: it must not '
      f'exceed the {shortest} tokens that a response may have'
    )
  if c.teacher and not c.grpo.beta:
    raise errors.UserError(
      'config.teacher stands in the place of the reference, which counts for '
      'nothing with config.grpo.beta=0: set beta=1 and kl=reverse to distil'
    )
  if c.parallel.rollout and not c.grpo.late:
    raise errors.UserError(
      'config.parallel.rollout gives rollouts devices of their own, which would '
      'stand idle without config.grpo.late=True: set both or neither'
    )
  for place in places:
    grpo.check_counts(c.grpo, c.steps, c.micro, place.rows)


def load_records(c):
  """(training records, held-out records), golds and domains checked."""
  records = tasks.load(c.prompts, c.seed)
  if c.eval.data:
    held = tasks.load(c.eval.data, c.seed + 1)
  else:
    records, held = data.split(records, c.eval.held_out, c.seed)
  rewards.check(c.rewards, records + held, c.by_domain, c.reward_models)
  if c.domains_from and not first_records(c, records):
    raise errors.UserError(
      f'every record of {c.prompts} is of a domain of config.by_domain, so there '
      f'is none for the steps before config.domains_from={c.domains_from}'
    )
  return records, held


def first_records(c, records):
  """Those that are drawn before the domains of by_domain join."""
  return [x for x in records if x.get('domain') not in c.by_domain]
