"""Rollouts of a GRPO step: samples, their rewards, and log-probabilities under
the old policy and the reference."""

import dataclasses
import time
from collections.abc import Callable

import jax
import numpy as np

from r1jax.rewards import outage, pending
from r1jax.rewards.pending import PendingRewards, Rewards
from r1jax.rl import (
  advantages,
  curriculum,
  grpo,
  grpo_config,
  micro_batches,
  rl_run,
)
from r1jax.rl.rl_run import Position, Sampling
from r1jax.sampling import generate
from r1jax.sampling.generate import Samples
from r1jax.training import memory_errors


@dataclasses.dataclass(frozen=True)
class Rollout:
  """Sampled responses whose rewards may still be computed (see rewards_of)."""

  samples: Samples
  rewards: PendingRewards | Rewards
  batch: dict[str, np.ndarray]  # per-token arrays, without advantages
  max_new_tokens: int
  next_prompt: int  # in the stream of prompts, after this rollout's
  seconds: dict[str, float]  # of its parts, by metric
  # Of the prompts that dynamic sampling has sampled, see curriculum.results.
  success: dict[str, float] = dataclasses.field(default_factory=dict)


def sample_rollout(
  sampling: Sampling, params: dict, ref_params: dict | None, position: Position
) -> Rollout:
  """Samples a rollout and submits its rewards. While these are computed,
  computes the old and the reference's log-probabilities.

  params are the policy's on the rollout devices, ref_params the reference's.
  """
  config, began, success = sampling.config, time.time(), {}
  if config.grpo.dynamic_sampling_rounds:
    samples, rewards, next_prompt, success = _sample_alive(
      sampling, params, position
    )
  else:
    samples, next_prompt = _sample_prompts(sampling, params, position)
    with memory_errors.explained('rewards', config):
      rewards = pending.submit(sampling.scorer, samples.records, samples.texts)
  sampled = time.time()
  batch = grpo.columns(samples.rows)
  if grpo_config.needs_old_logprobs(config.grpo):
    program = sampling.policy_logprobs
    with memory_errors.explained('old log-probabilities', config):
      batch['old_BL'] = logprobs(sampling, program, params, batch)
  if config.grpo.kl_coef:
    assert ref_params is not None
    program = sampling.ref_logprobs
    with memory_errors.explained("reference's log-probabilities", config):
      batch['ref_BL'] = logprobs(sampling, program, ref_params, batch)
  return Rollout(
    samples=samples,
    rewards=rewards,
    batch=batch,
    max_new_tokens=config.max_new_tokens_at(position.step),
    next_prompt=next_prompt,
    seconds={
      'time/sample': sampled - began,
      'time/score': time.time() - sampled,
    },
    success=success,
  )


def rewards_of(rollout: Rollout) -> Rewards:
  """The rewards of a rollout. Waits for them; a collective on several hosts."""
  if isinstance(rollout.rewards, Rewards):
    return rollout.rewards
  return pending.collect(rollout.rewards)


def rewards_after_outage(sampling: Sampling, rollout: Rollout) -> Rewards:
  """`rewards_of`, after an outage of verifiers or rewards. Raises errors.Outage
  if it lasts."""
  samples, rewards = rollout.samples, rewards_of(rollout)
  return outage.score_again(
    sampling.scorer, samples.records, samples.texts, rewards
  )


def make_batch(
  config: grpo_config.GrpoConfig, rollout: Rollout, rewards: Rewards
) -> dict[str, np.ndarray]:
  """The per-token arrays of an update: the rollout's, with advantages."""
  adv_N, learn_N = advantages.of_rollout(
    config, rollout.samples.rows, rewards.reward_N, rollout.max_new_tokens
  )
  return advantages.add(rollout.batch, adv_N, learn_N)


def logprobs(
  sampling: Sampling,
  program: Callable,
  params: dict,
  batch: dict[str, np.ndarray],
) -> np.ndarray:
  """logp_BL of a batch by a program of `sampling`; its rows are cut as in an
  update."""
  config = sampling.config.grpo
  cutting = rl_run.cutting(sampling, sampling.placement)
  packing = micro_batches.choose_packing(config, batch, cutting)
  parts = micro_batches.cut(config, batch, cutting, packing)
  shape = batch['tokens_BL'].shape
  return grpo.compute_logprobs(
    sampling.placement, program, params, parts, shape
  )


def _sample_prompts(sampling, params, position):
  """(samples, next_prompt) of the next prompts of the stream."""
  config, step = sampling.config, position.step
  count, next_prompt = config.grpo.prompts_per_step, position.next_prompt
  prompts = sampling.prompts_at(step)
  index_P = curriculum.indices(
    config.curriculum,
    prompts,
    config.prompts_mix,
    config.seed,
    step,
    next_prompt,
    count,
    position.success,
  )
  with memory_errors.explained('rollout', config):
    samples = sampling.sampler.sample(
      params,
      [prompts.records[i] for i in index_P],
      next_prompt + np.arange(count),
      jax.random.fold_in(jax.random.fold_in(sampling.key, 0), step),
      config.grpo.group_size,
      max_new_tokens=config.max_new_tokens_at(step),
    )
  return samples, next_prompt + count


def _sample_alive(sampling, params, position):
  """Dynamic sampling (DAPO): samples prompts until enough groups are not
  dead, dynamic_sampling_rounds at most: samples, rewards, next_prompt, and the
  success on all these prompts."""
  config, success = sampling.config.grpo, {}
  max_new_tokens = sampling.config.max_new_tokens_at(position.step)
  samples, rewards, dead = [], [], []
  while True:
    more, next_prompt = _sample_prompts(sampling, params, position)
    position = dataclasses.replace(position, next_prompt=next_prompt)
    samples.append(more)
    scored = outage.score(sampling.scorer, more.records, more.texts)
    rewards.append(scored)
    success |= curriculum.results(
      sampling.config.curriculum, more.records, scored
    )
    dead.append(
      advantages.dead_groups(config, more.rows, scored.reward_N, max_new_tokens)
    )
    enough = sum((~dead_P).sum() for dead_P in dead) >= config.prompts_per_step
    if enough or len(samples) >= config.dynamic_sampling_rounds:
      chosen = choose_groups(config, samples, rewards, np.concatenate(dead))
      return *chosen, next_prompt, success


def choose_groups(
  config: grpo_config.GrpoConfig,
  samples: list[Samples],
  rewards: list[Rewards],
  dead_P: np.ndarray,
) -> tuple[Samples, Rewards]:
  """The first prompts_per_step groups that are not dead. If there are fewer,
  adds dead groups."""
  joined = pending.join(rewards)
  alive_first_P = np.argsort(dead_P, kind='stable')
  prompt_P = np.sort(alive_first_P[: config.prompts_per_step])
  row_N = grpo.rows_of_groups(config, prompt_P)
  parts = {name: part_N[row_N] for name, part_N in joined.parts.items()}
  return generate.take(samples, row_N), Rewards(joined.reward_N[row_N], parts)
