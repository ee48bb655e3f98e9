"""What an rl run is told to do: its keys, the records that it reads, and what
is refused before anything is computed."""

from __future__ import annotations

import dataclasses

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.config import option
from r1jax.data import record_files, tasks, templates
from r1jax.distributed import device_placement
from r1jax.evaluation import held_out
from r1jax.rewards import registry, verifiers
from r1jax.rl import grpo
from r1jax.sampling import decode
from r1jax.training import optimizer


@dataclasses.dataclass(frozen=True)
class Config:
  init: str = option('', "a model's directory, GGUF file or hub name")
  prompts: str = option('', 'records: a path, toy:… or gym:…')
  steps: int = option(100, 'optimiser steps', least=1)
  max_new_tokens_schedule: tuple[tuple[int, int], ...] = option(
    (), 'pairs (step, sample.max_new_tokens from there on)'
  )
  micro_batch_size: int = option(
    16, 'rows whose gradient is computed at one time', least=1
  )
  length_buckets: int = option(4, 'row lengths to pad to', least=1)
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
  prompt: templates.PromptConfig = templates.PromptConfig()
  sample: decode.SampleConfig = decode.SampleConfig()
  grpo: grpo.GrpoConfig = grpo.GrpoConfig()
  verify: verifiers.VerifyConfig = verifiers.VerifyConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  optim: optimizer.OptimConfig = optimizer.OptimConfig()
  parallel: device_placement.ParallelConfig = device_placement.ParallelConfig()

  @property
  def response_lengths(self) -> list[int]:
    """The most tokens of a response, at the start and later."""
    later = [length for _, length in self.max_new_tokens_schedule]
    return [self.sample.max_new_tokens, *later]

  def max_new_tokens_at(self, step: int) -> int:
    """The most tokens of a response that begins after `step` updates."""
    length = self.sample.max_new_tokens
    for first_step, new_length in self.max_new_tokens_schedule:
      if first_step <= step:
        length = new_length
    return length


def check(c, *places):
  """Refuses what cannot work, with a sentence."""
  held_out.check(c.eval, c.rewards)
  grpo.check(c.grpo, c.compute.dtype)
  starts = [step for step, _ in c.max_new_tokens_schedule]
  shortest = min(c.response_lengths)
  if c.sample.top_p < 1 or c.sample.top_k:
    raise errors.UserError(
      'config.sample.top_p and top_k cut the distribution that the loss takes '
      'the samples to be drawn from: set them to 1 and 0 for rl'
    )
  if c.sample.temperature <= 0:
    raise errors.UserError('config.sample.temperature must be above 0 for rl')
  if not all(c.prompt.stop_strings + c.sample.stop_token_sequences):
    raise errors.UserError(
      'config.prompt.stop_strings or config.sample.stop_token_sequences has an empty entry, which '
      'would end every response at once: leave it out'
    )
  if starts != sorted(starts) or shortest < 1:
    raise errors.UserError(
      f'config.max_new_tokens_schedule is {c.max_new_tokens_schedule}: its steps must rise and its lengths be at '
      'least 1'
    )
  if c.grpo.overlong_buffer > shortest:
    raise errors.UserError(
      f'config.grpo.overlong_buffer is {c.grpo.overlong_buffer}: it must not '
      f'exceed the {shortest} tokens that a response may have'
    )
  if c.teacher and not c.grpo.kl_coef:
    raise errors.UserError(
      'config.teacher stands in the place of the reference, which counts for '
      'nothing with config.grpo.kl_coef=0: set beta=1 and kl=reverse to distil'
    )
  if c.parallel.rollout_devices and not c.grpo.max_staleness:
    raise errors.UserError(
      'config.parallel.rollout_devices gives rollouts devices of their own, which would '
      'stand idle without config.grpo.max_staleness=1: set both or neither'
    )
  for place in places:
    grpo.check_counts(c.grpo, c.steps, c.micro_batch_size, place.num_shards)


def load_records(c):
  """(training records, held-out records), golds and domains checked."""
  records = tasks.load_records(c.prompts, c.seed)
  if c.eval.data:
    held = tasks.load_records(c.eval.data, c.seed + 1)
  else:
    records, held = record_files.split(records, c.eval.held_out, c.seed)
  registry.check_rewards(
    c.rewards, records + held, c.by_domain, c.reward_models
  )
  if c.domains_from and not first_records(c, records):
    raise errors.UserError(
      f'every record of {c.prompts} is of a domain of config.by_domain, so there '
      f'is none for the steps before config.domains_from={c.domains_from}'
    )
  return records, held


def first_records(c, records):
  """Those that are drawn before the domains of by_domain join."""
  return [x for x in records if x.get('domain') not in c.by_domain]
