"""Searches for one to three config changes that make a run fit, by formula."""

import collections
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.preflight import arithmetic, chips
from r1jax.preflight import plan as plans
from r1jax.preflight.cost import Cost
from r1jax.preflight.plan import Plan
from r1jax.training import optimizer

MAX_FIXES = 6  # in a report
# A change that saves memory: values of config keys (without 'config.') and of
# 'topology'. At most one knob with the same first key is applied.
Knob = dict[str, Any]
Fix = tuple[str, float]  # (arguments with which the run fits, bytes needed)


def find(plan: Plan, costs: Sequence[Cost]) -> list[Fix]:
  """The smallest sets of knobs with which the run would fit. Needs are by
  formula, plus the excess of the compiler's figures over the formulas'."""
  formula = {x.name: x.need for x in arithmetic.costs(plan)}
  excess = {x.name: max(0, x.need - formula[x.name]) for x in costs}
  candidates = list(_knobs(plan))
  for count in (1, 2, 3):
    found: list[Fix] = []
    seen: collections.Counter = collections.Counter()
    for knobs in itertools.combinations(candidates, count):
      names = tuple(next(iter(knob)) for knob in knobs)
      # Of one set of names, the two smallest changes are enough.
      if len(set(names)) < count or seen[names] >= 2:
        continue
      need = _max_need(plan, knobs, excess)
      if need is not None:
        found.append((' '.join(map(arguments, knobs)), need))
        seen[names] += 1
    if found:
      return found[:MAX_FIXES]
  return []


def arguments(knob: Knob) -> str:
  """The command line's arguments."""
  text = ' '.join(f'--config.{key}={value}' for key, value in knob.items())
  return text.replace('--config.topology=', '--topology ')


def _max_need(plan, knobs, excess):
  """Bytes of the largest program; None if it does not fit or cannot run."""
  try:
    plan = with_knobs(plan, knobs)
    costs = arithmetic.costs(plan)
  except errors.UserError:
    return None
  config, shards = plan.config, plan.num_shards
  if config.micro_batch_size % shards or config.grpo.prompts_per_step % shards:
    return None
  need = max(x.need + excess.get(x.name, 0) for x in costs)
  return need if need <= plan.pod.chip.hbm_capacity else None


def with_knobs(plan: Plan, knobs: Sequence[Knob]) -> Plan:
  """The plan with these knobs. Raises UserError for an impossible mesh."""
  config, pod = plan.config, plan.pod
  for key, value in itertools.chain(*(knob.items() for knob in knobs)):
    section, _, name = key.rpartition('.')
    if key == 'topology':
      pod = chips.pod(value, pod.slices)
    elif not section:
      config = dataclasses.replace(config, **{name: value})
    else:
      new = dataclasses.replace(getattr(config, section), **{name: value})
      config = dataclasses.replace(config, **{section: new})
  cfg = policy.with_compute(
    plan.cfg, config.compute, pod.chip.backend, pod.chip.gpu_capability
  )
  return plans.make(
    config,
    cfg,
    pod,
    plan.mean_response_len,
    plan.held_out_problems,
    plan.expert_imbalance,
  )


def _knobs(plan):
  config, cfg = plan.config, plan.cfg
  if config.parallel.strategy == 'pmap':
    yield {'parallel.strategy': 'mesh'}
  remats = ('none', 'dots', 'full')
  for remat in remats[remats.index(cfg.remat) + 1 :]:
    yield {'compute.remat': remat}
  if cfg.dtype == 'float32':
    yield {'compute.dtype': 'bfloat16'}
  if cfg.attention == 'einsum' and plan.pod.chip.is_tpu:
    yield {'compute.attention': 'splash'}
  if config.tokens_per_micro_batch:
    shortest = plan.num_shards * plan.row_len
    for tokens in _halves(config.tokens_per_micro_batch, shortest):
      yield {'tokens_per_micro_batch': tokens}
  else:
    for rows in _halves(config.micro_batch_size, plan.num_shards):
      yield {'micro_batch_size': rows}
  for devices in (16, 8, 4, 2):
    if plan.tensor_parallel < devices <= cfg.max_tensor_parallel:
      yield {'parallel.tensor_parallel': devices}
  optim = config.optim
  if optim.moments_dtype == 'float32' and optimizer.can_be_bfloat16(optim):
    yield {'optim.moments_dtype': 'bfloat16'}
  if optim.optimizer == 'adamw' and optim.second_moment == 'full':
    yield {'optim.second_moment': 'factored'}
  for slots in _halves(plan.decode_slots, 1):
    yield {'sample.decode_slots': slots}
  if config.sample.cache_tokens:
    for tokens in _halves(config.sample.cache_tokens, plan.row_len):
      yield {'sample.cache_tokens': tokens}
  if cfg.head_chunk > 128:
    yield {'compute.head_chunk': 128}
  if config.grpo.kl_coef:
    yield {'grpo.kl_coef': 0.0}
  yield from _larger_pods(plan)


def _halves(value, minimum):
  """value / 2, value / 4, ... while they are integers and not below minimum."""
  while value % 2 == 0 and value // 2 >= minimum:
    value //= 2
    yield value


def _larger_pods(plan):
  """Topologies with twice and four times the chips, and at least one row for
  each of their shards."""
  config, pod = plan.config, plan.pod
  for sizes in chips.larger(pod):
    topology = f'{pod.chip.name}:{sizes}'
    shards = chips.pod(topology, pod.slices).devices // plan.tensor_parallel
    knob = dict(topology=topology)
    if config.micro_batch_size < shards:
      knob['micro_batch_size'] = shards
    if config.grpo.prompts_per_step < shards:
      knob['grpo.prompts_per_step'] = shards
    yield knob
