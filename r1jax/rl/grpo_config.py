"""The config of the algorithm of an rl run, its checks, and what follows from it."""

import dataclasses
import math
from typing import Any, Literal

from r1jax import errors, losses
from r1jax.config import option
from r1jax.models import transformer
from r1jax.rl import algorithm


@dataclasses.dataclass(frozen=True)
class GrpoConfig:
  prompts_per_step: int = option(32, 'prompts in one rollout', minimum=1)
  group_size: int = option(16, 'samples for one prompt, G', minimum=1)
  minibatches: int = option(1, 'updates in a pass over a rollout', minimum=1)
  epochs: int = option(1, 'passes over a rollout, mu', minimum=1)
  objective: str = option(
    'grpo', f'surrogate: {", ".join(losses.OBJECTIVES)}', is_code=True
  )
  objective_options: dict[str, Any] = option({}, 'parameters of the objective')
  loss_agg: str = option(
    'seq_mean_token_mean',
    f'averaging of the loss: {", ".join(losses.LOSS_AGGS)}',
    is_code=True,
  )
  advantage: str = option('group', '(r - mean) / std of a group', is_code=True)
  advantage_std: Literal['population', 'sample', 'none'] = option(
    'population', 'standard deviation that divides the advantages'
  )
  clip_low: float = option(0.2, 'ratios are clipped below 1 - this', minimum=0)
  clip_high: float = option(0.2, 'ratios are clipped above 1 + this', minimum=0)
  kl_coef: float = option(0.001, 'weight of the KL (beta); 0: none', minimum=0)
  kl_estimator: str = option(
    'k3', f'{", ".join(losses.KL_ESTIMATORS)}', is_code=True
  )
  ref_every: int = option(400, 'steps between refreshes; 0: never', minimum=0)
  entropy_bonus: float = option(0.0, 'weight of the entropy; 0: off', minimum=0)
  old_logprobs: Literal['sampler', 'trainer'] = option(
    'sampler', 'source of the old log-probabilities'
  )
  tis_cap: float = option(0.0, 'max. pi_trainer/pi_sampler; 0: off', minimum=0)
  overlong_filter: bool = option(
    False, 'truncated rows are not in the loss, but in the baseline (DAPO)'
  )
  overlong_buffer: int = option(
    0, 'tokens of the soft length penalty (DAPO); 0: off', minimum=0
  )
  router_replay: Literal['auto', 'on', 'off'] = option(
    'auto',
    "updates use the sampler's choice of experts; auto: on in bfloat16",
  )
  share_prompts: Literal['auto', 'on', 'off'] = option(
    'auto',
    'compute the prompt of several rows once; auto: where it saves tokens',
    is_free=True,
  )
  mtp_coef: float = option(
    0.0, "weight of the loss of multi-token prediction's module", minimum=0
  )
  max_staleness: Literal[0, 1] = option(0, '1: learn one step after sampling')
  dynamic_sampling_rounds: int = option(0, 'max. rollouts; 0: off', minimum=0)

  @property
  def updates(self) -> int:
    """Optimiser steps of a rollout."""
    return self.minibatches * self.epochs


def check(config: GrpoConfig, dtype: str) -> None:
  """Refuses values that cannot work."""
  objective(config)
  algorithm.kl_estimator(config.kl_estimator)
  algorithm.check(config.advantage, config.loss_agg, config.advantage_std)
  if config.group_size < 2 and config.advantage_std != 'none':
    raise errors.UserError(
      'a group of one has no standard deviation to divide by: set '
      'config.grpo.group_size higher, or config.grpo.advantage_std=none'
    )
  if config.prompts_per_step % config.minibatches:
    raise errors.UserError(
      f'config.grpo.minibatches is {config.minibatches}, which must divide the '
      f'{config.prompts_per_step} prompts of a rollout: groups are never split'
    )
  if config.tis_cap and config.old_logprobs == 'sampler':
    raise errors.UserError(
      "config.grpo.tis_cap needs the trainer's log-probabilities: set "
      'config.grpo.old_logprobs=trainer'
    )
  if config.share_prompts == 'on' and config.mtp_coef:
    raise errors.UserError(
      'config.grpo.mtp_coef needs rows with a prompt each: set '
      'config.grpo.share_prompts=auto'
    )
  if dtype != 'float32' and config.old_logprobs == 'sampler':
    raise errors.UserError(
      f'in {dtype} the sampler and the trainer round differently: set '
      'config.grpo.old_logprobs=trainer (and tis_cap=2 to correct the sampler)'
    )


def check_counts(
  config: GrpoConfig,
  steps: int,
  micro_batch_size: int,
  num_shards: int,
  tokens_per_micro_batch: int = 0,
) -> None:
  """Refuses rows that do not fill micro-batches on every device, and updates
  that do not fill rollouts."""
  if config.prompts_per_step % num_shards or micro_batch_size % num_shards:
    raise errors.UserError(
      f'{num_shards} devices share the rows: config.grpo.prompts_per_step '
      f'({config.prompts_per_step}) and config.micro_batch_size '
      f'({micro_batch_size}) must be multiples'
    )
  if not tokens_per_micro_batch:
    _check_rows(config, micro_batch_size, num_shards)
  if steps % config.updates:
    raise errors.UserError(
      f'config.steps is {steps}: it must be a multiple of the {config.updates} '
      'updates of a rollout (minibatches * epochs)'
    )


def _check_rows(config, micro_batch_size, num_shards):
  rows = config.prompts_per_step // config.minibatches * config.group_size
  if rows % micro_batch_size:
    raise errors.UserError(
      f'config.micro_batch_size is {micro_batch_size}: it must divide the '
      f'{rows} rows of a mini-batch, prompts_per_step*group_size/minibatches'
    )
  device_rows = micro_batch_size // num_shards
  is_shared = math.gcd(config.group_size, device_rows) > 1
  if config.share_prompts == 'on' and not is_shared:
    raise errors.UserError(
      'config.grpo.share_prompts=on needs several responses of a group on a '
      f'device, which has {device_rows} of the rows of a micro-batch: choose a '
      'config.micro_batch_size that is a multiple of config.grpo.group_size on '
      'each device'
    )


def is_on_policy(config: GrpoConfig) -> bool:
  """Whether the policy is unchanged between a rollout and its only update, so
  that the update itself yields the old log-probabilities."""
  one_update = config.updates == 1 and not config.max_staleness
  return config.old_logprobs == 'trainer' and one_update


def needs_old_logprobs(config: GrpoConfig) -> bool:
  """Whether the trainer must compute the old log-probabilities of a rollout."""
  return config.old_logprobs == 'trainer' and not is_on_policy(config)


def replays_routing(config: GrpoConfig, cfg: transformer.ModelConfig) -> bool:
  """Whether updates and old log-probabilities use the experts that the sampler
  chose, with weights of the live router (R3, arXiv 2510.11370)."""
  if not cfg.num_experts or config.router_replay == 'off':
    return False
  return config.router_replay == 'on' or cfg.dtype == 'bfloat16'


def objective(config: GrpoConfig) -> losses.Objective:
  """The function of config.objective, with its options bound."""
  clips = dict(clip_low=config.clip_low, clip_high=config.clip_high)
  return algorithm.objective(config.objective, clips, config.objective_options)
