"""Logging of an rl step: metrics, samples, progress, held-out evaluation."""

import dataclasses

import jax
import numpy as np

from r1jax.distributed import hosts
from r1jax.evaluation import held_out
from r1jax.reports import groups
from r1jax.rewards import pending
from r1jax.rewards.pending import Rewards
from r1jax.rl import advantages, grpo_config, rl_run
from r1jax.rl.rl_run import RlState, Run
from r1jax.rl.rollouts import Rollout
from r1jax.sampling import generate
from r1jax.sampling.generate import Samples
from r1jax.training import memory_errors, metrics


def log_step(
  run: Run,
  state: RlState,
  rollout: Rollout,
  rewards: Rewards,
  lines: list[dict],
  seconds: dict[str, float],
) -> float | None:
  """Writes the samples and metrics of a rollout; evaluates if an evaluation is
  due. Returns the score of the evaluation, or None."""
  config = run.config
  first_step, step = lines[0]['step'] - 1, lines[-1]['step']
  line = rollout_metrics(run, rollout.samples, rewards, rollout.max_new_tokens)
  line |= rollout.seconds | seconds
  failed = hosts.gather(run.sampling.verifiers.pop_failure_counts())
  line |= {f'verify/{kind}': sum(x[kind] for x in failed) for kind in failed[0]}
  line |= {
    'tokens_per_s': rollout.samples.length_N.sum() / seconds['seconds'],
    'time/waiting': seconds['time/rewards'] / seconds['seconds'],
    'time/programs': len(metrics.compilations),
  }
  lines[0] |= line
  score = None
  try:
    if crossed(config.eval.every, first_step, step):
      lines[-1] |= evaluate(run, state, step)
      score = held_out.score(config.eval, lines[-1])
  finally:  # SIGTERM or the user's rewards may end the evaluation.
    for one in lines:
      run.writer.write(one)
    run.writer.samples(
      sample_lines(rollout.samples, rewards, step, config.log_samples)
    )
    every = config.log_groups_every
    if every and not first_step or crossed(every, first_step, step):
      run.writer.groups(group_lines(config.grpo, rollout, rewards, step))
  shown = line | lines[-1]
  shown['sampling_logp_difference'] = lines[0]['sampling_logp_difference']
  if held_out.PASS1 in shown:
    shown.pop(held_out.REWARD)  # One figure is enough there.
  run.progress.show(step, shown)
  return score


def crossed(every: int, before: int, after: int) -> bool:
  """Whether a multiple of `every` lies in (before, after]; never with 0."""
  return bool(every) and after // every > before // every


def evaluate(run: Run, state: RlState, step: int) -> dict[str, float]:
  """The held-out metrics of the policy after `step` updates.

  The records are sampled in chunks of config.eval.prompts_per_chunk, a multiple
  of the shards. Chunks change nothing: keys derive from a record's number. On
  SIGTERM raises Terminated after a chunk, on all hosts.
  """
  key = jax.random.fold_in(jax.random.fold_in(run.sampling.key, 1), step)
  config, records = run.config.eval, run.sampling.held_out_records
  params, shards = rl_run.policy_params(run, state), run.sampling.placement
  size = -(-config.prompts_per_chunk // shards.num_shards) * shards.num_shards
  size = min(size, len(records))
  chunks, rewards = [], []
  for start in range(0, len(records), size):
    if start:
      run.progress.show_part(start, len(records), 'held-out problem')
      hosts.raise_if_terminating()
    chunk = records[start : start + size]
    with memory_errors.explained('evaluation', run.config):
      samples = run.sampling.sampler.sample(
        params,
        chunk,
        start + np.arange(len(chunk)),
        key,
        config.samples,
        config.temperature,
        run.config.max_new_tokens_at(step),
        num_prompts=size,
      )
    scored = pending.score(run.sampling.scorer, samples.records, samples.texts)
    # Of the rows only the lengths are used.
    rows = samples.rows.replace(
      tokens_BL=None, pos_BL=None, logp_BL=None, routing=None
    )
    chunks.append(dataclasses.replace(samples, rows=rows))
    rewards.append(scored)
  samples = generate.take(chunks, np.arange(len(records) * config.samples))
  return held_out.metrics(samples, pending.join(rewards), config.samples)


def rollout_metrics(
  run: Run, samples: Samples, rewards: Rewards, max_new_tokens: int
) -> dict[str, float]:
  """Metrics of a rollout before its updates."""
  samples_per_shard = len(samples.texts) // run.sampling.placement.num_shards
  slots = min(run.config.sample.decode_slots, samples_per_shard)
  offered = max(1, samples.rows.steps.sum() * slots)
  dead_P = advantages.dead_groups(
    run.config.grpo, samples.rows, rewards.reward_N, max_new_tokens
  )
  live = samples.rows.live.sum()
  metrics = held_out.summary(samples, rewards) | {
    'dead_groups': dead_P.mean(),
    'occupancy': live / offered,
  }
  sampled, restarted = samples.length_N.sum(), samples.rows.restarted
  if restarted is not None:
    metrics['restarted_tokens'] = restarted.sum()
    sampled += restarted.sum()
  if run.config.sample.draft:  # of a slot in use
    metrics['tokens_per_step'] = sampled / max(1, live)
  return metrics


def sample_lines(
  samples: Samples, rewards: Rewards, step: int, count: int
) -> list[dict]:
  """`count` of the samples, evenly spaced, as lines of samples.jsonl."""
  every = max(1, len(samples.texts) // max(1, count))
  lines = []
  for n in range(0, len(samples.texts), every)[:count]:
    record = samples.records[n]
    line = dict(step=step, id=record['id'], prompt=record['prompt'])
    lines.append(line | response_line(samples, rewards, n))
  return lines


def group_lines(
  config: grpo_config.GrpoConfig, rollout: Rollout, rewards: Rewards, step: int
) -> list[dict]:
  """The first and the middle group of a rollout, as lines of groups.jsonl: all
  responses to a prompt, with their advantages."""
  samples, G = rollout.samples, config.group_size
  adv_N, _ = advantages.of_rollout(
    config, samples.rows, rewards.reward_N, rollout.max_new_tokens
  )
  count, lines = len(samples.texts) // G, []
  for start in sorted({0, count // 2 * G}):
    record, members = samples.records[start], []
    for n in range(start, start + G):
      advantage = dict(advantage=float(adv_N[n]))
      members.append(response_line(samples, rewards, n) | advantage)
    line = dict(step=step, id=record['id'], prompt=record['prompt'])
    answer = groups.plain_answer(record.get('answer'))
    line |= dict(answer=answer, samples=members)
    lines.append(line)
  return lines


def response_line(samples: Samples, rewards: Rewards, n: int) -> dict:
  """What is logged of the n-th response."""
  parts = {name: float(part_N[n]) for name, part_N in rewards.parts.items()}
  return dict(
    response=samples.texts[n],
    reward=float(rewards.reward_N[n]),
    rewards={k: part for k, part in parts.items() if not np.isnan(part)},
    finished=bool(samples.rows.finished_B[n]),
    length=int(samples.length_N[n]),
  )


def idle_shares(seconds: dict, rollout: Rollout) -> dict[str, float]:
  """The fraction of the step during which each group of devices was idle."""
  rollout_seconds = sum(rollout.seconds.values())
  busy = dict(train=seconds['time/update'], rollout=rollout_seconds)
  return {
    f'time/idle_{name}': max(0.0, 1 - value / seconds['seconds'])
    for name, value in busy.items()
  }
