"""The config of an rl run, and its checks."""

from __future__ import annotations

import dataclasses
from typing import Literal

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.config import MAX_SEED, option
from r1jax.data import mixture, sequences, templates
from r1jax.distributed import device_placement
from r1jax.distributed.device_placement import Placement
from r1jax.evaluation import held_out
from r1jax.models import kernels
from r1jax.models.model_config import ModelConfig
from r1jax.rewards import registry, verifiers
from r1jax.rl import curriculum, grpo_config
from r1jax.sampling import decode, generate, token_sampling
from r1jax.training import optimizer
from r1jax.training.config_changes import Changed
from r1jax.training.trackers import registry as trackers


@dataclasses.dataclass(frozen=True)
class Config:
  init: str = option(
    '',
    "a model's directory, GGUF file or hub name",
    fixed='model',
    reads='model',
  )
  prompts: str = option(
    '',
    'records: a path, hf://…, toy:… or gym:…',
    is_code=True,
    fixed='data',
    reads='records',
  )
  prompts_map: dict[str, str] = option(
    {}, "columns of prompts, e.g. {'answer': 'final'}", fixed='data'
  )
  prompts_mix: dict[str, float] = option(
    {},
    'in place of prompts: shares of the rollouts by source',
    is_code=True,
    fixed='data',
    reads='records',
  )
  skip_bad_records: bool = option(
    False,
    'leave out, and count, records that cannot be used',
    fixed='data',
  )
  drop_too_long: bool = option(
    False, 'leave out, and count, records that are too long', fixed='data'
  )
  steps: int = option(100, 'optimiser steps', minimum=1)
  max_new_tokens_schedule: tuple[tuple[int, int], ...] = option(
    (), 'pairs (step, sample.max_new_tokens from this step on)'
  )
  micro_batch_size: int = option(
    16, 'rows of one gradient pass', minimum=1, is_free=True
  )
  tokens_per_micro_batch: int = option(
    0,
    'tokens of one gradient pass, of rows without padding; 0: rows',
    minimum=0,
    is_free=True,
  )
  length_buckets: int = option(
    4, 'number of row lengths to pad to', minimum=1, is_free=True
  )
  seed: int = option(
    0, 'seed of all random numbers', minimum=0, maximum=MAX_SEED, fixed='seed'
  )
  save_every: int = option(
    50, 'steps between checkpoints', minimum=1, is_free=True
  )
  keep: int = option(
    2, 'number of newest checkpoints to keep', minimum=1, is_free=True
  )
  export_dtype: Literal['auto', 'float32', 'bfloat16'] = option(
    'auto',
    'of the written model: float32, bfloat16, auto: bfloat16 if init has it',
    is_free=True,
  )
  best: int = option(
    1, 'checkpoints to keep that are best by eval.best', minimum=0, is_free=True
  )
  log_every: int = option(
    0, 'steps between printed lines; 0: about 20', minimum=0, is_free=True
  )
  trackers: tuple[str, ...] = option(
    trackers.DEFAULT, trackers.HELP, is_free=True
  )
  log_samples: int = option(
    4, 'samples to log of each rollout', minimum=0, is_free=True
  )
  log_groups_every: int = option(
    10,
    'steps between rollouts of which whole groups are logged; 0: never',
    minimum=0,
    is_free=True,
  )
  rewards: dict[str, float] = option(
    dict(accuracy=1.0, format=1.0),
    'weights by reward name; 0: measured only; a dict replaces all of them, '
    'as "{\'format\': 1.0}" for records without answers',
    is_code=True,
  )
  by_domain: dict[str, dict[str, float]] = option(
    {}, 'weights by domain', is_code=True
  )
  domains_from: int = option(0, 'first step of by_domain records', minimum=0)
  reward_models: dict[str, str] = option(
    {}, 'directories by reward name', reads='model'
  )
  teacher: str = option(
    '',
    'a model to distil, in place of the reference',
    fixed='reference',
    reads='model',
  )
  eval: held_out.EvalConfig = held_out.EvalConfig()
  curriculum: curriculum.CurriculumConfig = curriculum.CurriculumConfig()
  prompt: templates.PromptConfig = templates.PromptConfig()
  sample: decode.SampleConfig = decode.SampleConfig()
  grpo: grpo_config.GrpoConfig = grpo_config.GrpoConfig()
  verify: verifiers.VerifyConfig = verifiers.VerifyConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  optim: optimizer.OptimConfig = optimizer.OptimConfig()
  parallel: device_placement.ParallelConfig = device_placement.ParallelConfig()

  @property
  def prompts_name(self) -> str:
    """The sources of the records, for errors."""
    return mixture.name_of(self.prompts, self.prompts_mix)

  @property
  def response_lengths(self) -> list[int]:
    """The maximum number of tokens of a response, at the start and later."""
    later = [length for _, length in self.max_new_tokens_schedule]
    return [self.sample.max_new_tokens, *later]

  def max_new_tokens_at(self, step: int) -> int:
    """The maximum response length of a rollout after `step` updates."""
    length = self.sample.max_new_tokens
    for first_step, new_length in self.max_new_tokens_schedule:
      if first_step <= step:
        length = new_length
    return length


def check(config: Config, *placements: Placement) -> None:
  """Refuses values that cannot work on these placements."""
  held_out.check(config.eval, reward_tables(config.rewards, config.by_domain))
  grpo_config.check(config.grpo, config.compute.dtype)
  trackers.check(config.trackers)
  names = [
    x
    for table in reward_tables(config.rewards, config.by_domain)
    for x in table
  ]
  curriculum.check(config.curriculum, list(registry.labels(names).values()))
  sample, min_length = config.sample, min(config.response_lengths)
  if sample.top_p < 1 or sample.top_k:
    raise errors.UserError(
      'config.sample.top_p and top_k change the distribution that the loss '
      'assumes for the samples: set them to 1 and 0 for rl'
    )
  if sample.temperature < token_sampling.MIN_TEMPERATURE:
    raise errors.UserError('config.sample.temperature must be above 0 for rl')
  generate.check(config.prompt, sample)
  steps = [step for step, _ in config.max_new_tokens_schedule]
  if steps != sorted(steps) or min_length < 1:
    raise errors.UserError(
      f'config.max_new_tokens_schedule is {config.max_new_tokens_schedule}: '
      'its steps must rise and its lengths be at least 1'
    )
  if config.grpo.overlong_buffer > min_length:
    raise errors.UserError(
      f'config.grpo.overlong_buffer is {config.grpo.overlong_buffer}: it must '
      f'not exceed the {min_length} tokens that a response may have'
    )
  if config.teacher and not config.grpo.kl_coef:
    raise errors.UserError(
      'config.teacher has no effect with config.grpo.kl_coef=0: set kl_coef=1 '
      'and kl_estimator=k3_unbiased to distil'
    )
  if config.parallel.rollout_devices and not config.grpo.max_staleness:
    raise errors.UserError(
      'the devices of config.parallel.rollout_devices would be idle without '
      'config.grpo.max_staleness=1: set both or neither'
    )
  for placement in placements:
    check_shards(config, placement.num_shards, max(config.response_lengths))


def check_shards(config: Config, num_shards: int, longest: int) -> None:
  """Refuses counts that so many data shards do not divide, and micro-batches
  that do not hold a row of `longest` tokens on each."""
  tokens = config.tokens_per_micro_batch
  grpo_config.check_counts(
    config.grpo, config.steps, config.micro_batch_size, num_shards, tokens
  )
  if tokens:
    sequences.check_tokens(tokens, num_shards, longest)


def check_sharing(config: Config, cfg: ModelConfig) -> None:
  """Refuses to share prompts in rows that a kernel does not know."""
  is_on = config.tokens_per_micro_batch and config.grpo.share_prompts == 'on'
  if is_on and not kernels.can_share_prompts(cfg.attention):
    raise errors.UserError(
      'config.grpo.share_prompts=on with config.tokens_per_micro_batch needs an '
      f'attention that knows shared prompts, not {cfg.attention}: set '
      'config.grpo.share_prompts=auto'
    )


def reward_tables(
  rewards: dict[str, float], by_domain: dict[str, dict[str, float]]
) -> list[dict[str, float]]:
  """The weights of all records, and of each domain."""
  return [rewards, *by_domain.values()]


def check_changes(config: Config, changes: list[Changed]) -> None:
  """Refuses changes of a run that its checkpoints do not allow."""
  rewards, by_domain = config.rewards, config.by_domain
  for change in changes:
    if change.key == 'rewards':
      rewards = change.old
    elif change.key == 'by_domain':
      by_domain = change.old
  before = held_out.best_metric(config.eval, reward_tables(rewards, by_domain))
  after = held_out.best_metric(
    config.eval, reward_tables(config.rewards, config.by_domain)
  )
  if config.eval.every and before != after:
    raise errors.UserError(
      f'the checkpoints of this run have scores by {before}, and with other '
      f'rewards the best one would be that by {after}: keep accuracy as it was '
      'among the rewards, with weight 0 to leave it out of training'
    )
  for change in changes:
    if change.key == 'grpo.kl_coef' and bool(change.old) != bool(change.new):
      raise errors.UserError(
        f'config.grpo.kl_coef cannot change from {change.old} to {change.new}: '
        'a checkpoint holds a reference policy only if kl_coef is not 0'
      )


def check_remaining(config: Config, step: int) -> None:
  """Refuses steps that do not fill rollouts from a checkpoint on."""
  if (config.steps - step) % config.grpo.updates:
    raise errors.UserError(
      f'the run continues from step {step} to config.steps={config.steps}: the '
      f'difference must be a multiple of the {config.grpo.updates} updates of '
      'a rollout (minibatches * epochs)'
    )
