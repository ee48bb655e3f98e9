"""Rollouts of a GRPO step: prompts by index, samples, their rewards and the
log-probabilities of the policy that sampled them and of the reference."""

import dataclasses
import time

import jax
import numpy as np

from r1jax.data import batching, record_files
from r1jax.rewards import pending
from r1jax.rewards.pending import PendingRewards, Rewards
from r1jax.rl import grpo
from r1jax.rl.setup import Position, Run
from r1jax.sampling import generate
from r1jax.sampling.generate import Samples


@dataclasses.dataclass(frozen=True)
class Rollout:
  """Sampled responses whose rewards may still be computed (see rewards_of)."""

  samples: Samples
  rewards: PendingRewards | Rewards
  batch: dict[str, np.ndarray]  # per-token arrays, without advantages
  max_new_tokens: int
  first_prompt: int  # the position in the stream of prompts before it
  seconds: dict[str, float]  # of its parts, by metric


def sample_rollout(
  run: Run, params: dict, ref_params: dict | None, position: Position
) -> tuple[Rollout, Position]:
  """Samples a rollout, starts to compute its rewards, and computes meanwhile
  the old and the reference's log-probabilities.

  params are the policy's on the rollout devices, ref_params the reference's.
  """
  config, began = run.config, time.time()
  max_new_tokens = config.max_new_tokens_at(position.step)
  if config.grpo.dynamic_sampling_rounds:
    samples, rewards, next_prompt = _sample_until_alive(run, params, position)
  else:
    samples, next_prompt = _sample_prompts(
      run, params, position.step, position.next_prompt
    )
    rewards = pending.submit(
      run.executor, run.scorer, samples.records, samples.texts
    )
  sampled = time.time()
  batch = grpo.columns(samples.rows)
  if config.grpo.old_logprobs == 'trainer' and not grpo.is_on_policy(
    config.grpo
  ):
    batch['old_BL'] = _logprobs(run, run.policy_logprobs, params, batch)
  if config.grpo.kl_coef:
    batch['ref_BL'] = _logprobs(run, run.ref_logprobs, ref_params, batch)
  rollout = Rollout(
    samples=samples,
    rewards=rewards,
    batch=batch,
    max_new_tokens=max_new_tokens,
    first_prompt=position.next_prompt,
    seconds={
      'time/sample': sampled - began,
      'time/score': time.time() - sampled,
    },
  )
  return rollout, dataclasses.replace(position, next_prompt=next_prompt)


def rewards_of(rollout: Rollout) -> Rewards:
  """The rewards of a rollout. Waits for them; a collective on several hosts."""
  if isinstance(rollout.rewards, Rewards):
    return rollout.rewards
  return pending.collect(rollout.rewards)


def make_batch(
  run: Run, rollout: Rollout, rewards: Rewards
) -> dict[str, np.ndarray]:
  """The per-token arrays of an update: the rollout's, with advantages."""
  config = run.config.grpo
  reward_N, keep_N = grpo.shape_rewards(
    config, rollout.samples.rows, rewards.reward_N, rollout.max_new_tokens
  )
  return grpo.with_advantages(config, rollout.batch, reward_N, keep_N)


def _sample_prompts(run, params, step, next_prompt):
  """(samples, position after them) of the next prompts of the stream."""
  config = run.config
  count = config.grpo.prompts_per_step
  records = run.records_at(step)
  index_P = record_files.prompt_indices(
    config.seed, next_prompt, count, len(records)
  )
  samples = run.sampler.sample(
    params,
    [records[i] for i in index_P],
    next_prompt + np.arange(count),
    jax.random.fold_in(jax.random.fold_in(run.key, 0), step),
    config.grpo.group_size,
    max_new_tokens=config.max_new_tokens_at(step),
  )
  return samples, next_prompt + count


def _sample_until_alive(run, params, position):
  """(samples, rewards, position): dynamic sampling (DAPO). Samples prompts until
  enough groups have different rewards, or for the rounds that are allowed."""
  config, next_prompt = run.config.grpo, position.next_prompt
  samples, rewards, alive = [], [], 0
  while True:
    more, next_prompt = _sample_prompts(run, params, position.step, next_prompt)
    samples.append(more)
    rewards.append(pending.score(run.scorer, more.records, more.texts))
    alive += (~grpo.dead_groups(config, rewards[-1].reward_N)).sum()
    enough = alive >= config.prompts_per_step
    if enough or len(samples) >= config.dynamic_sampling_rounds:
      return *_choose_groups(config, samples, rewards), next_prompt


def _choose_groups(config, samples, rewards):
  """(samples, rewards) of the first groups that are alive, filled up with dead
  ones if there are too few."""
  reward_N = np.concatenate([part.reward_N for part in rewards])
  dead_P = grpo.dead_groups(config, reward_N)
  alive_first_P = np.argsort(dead_P, kind='stable')
  prompt_P = np.sort(alive_first_P[: config.prompts_per_step])
  row_N = grpo.rows_of_groups(config, prompt_P)
  parts = {}
  for name in rewards[0].parts:
    parts[name] = np.concatenate([part.parts[name] for part in rewards])[row_N]
  return generate.take(samples, row_N), Rewards(reward_N[row_N], parts)


def _logprobs(run, program, params, batch):
  width = batch['tokens_BL'].shape[1]
  return grpo.compute_logprobs(
    run.rollout_placement,
    program,
    params,
    batch,
    run.config.micro_batch_size,
    batching.lengths(width, run.config.length_buckets),
  )
