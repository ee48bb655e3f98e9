"""Which knob would make a run fit: the arithmetic again, with each of them."""

import collections
import dataclasses
import itertools

from r1jax import errors
from r1jax.preflight import arithmetic, chips
from r1jax.preflight import plan as plans


def find(plan, costs, most=6):
  """[(what to set, the largest need in bytes)] that would fit, fewest changes
  first. The costs that the compiler gave correct the arithmetic."""
  formula = {x.name: x.need for x in arithmetic.costs(plan)}
  apart = {x.name: max(0, x.need - formula[x.name]) for x in costs}
  single = list(candidates(plan))
  for many in (1, 2, 3):
    found, seen = [], collections.Counter()
    for knobs in itertools.combinations(single, many):
      keys = tuple(key for key, _, _ in knobs)
      # The two smallest steps of the same knobs will do.
      if len(set(keys)) < many or seen[keys] >= 2:
        continue
      need = largest(plan, [change for _, _, change in knobs], apart)
      if need and need[0] <= need[1]:
        found.append((' '.join(words for _, words, _ in knobs), need[0]))
        seen[keys] += 1
    if found:
      return found[:most]
  return []


def largest(plan, changes, apart):
  """(the largest need, usable HBM) after changes; None where they are none."""
  for change in changes:
    plan = change(plan)
  try:
    plan = plans.make(plan.c, plan.cfg, plan.pod, plan.length)
    costs = arithmetic.costs(plan)
  except errors.UserError:
    return None
  if (
    plan.c.micro_batch_size % plan.shards
    or plan.c.grpo.prompts_per_step % plan.shards
  ):
    return None
  needs = [x.need + apart.get(x.name, 0) for x in costs]
  return max(needs), plan.pod.chip.hbm


def candidates(plan):
  """(key, words, plan -> plan) of every knob that saves memory."""
  c, cfg, pod = plan.c, plan.cfg, plan.pod

  def config(key, value, cfg_too=False):
    def change(plan):
      name, _, inner = key.partition('.')
      new = value
      if inner:
        new = dataclasses.replace(getattr(plan.c, name), **{inner: value})
      changed = dataclasses.replace(plan.c, **{name: new})
      cfg = dataclasses.replace(plan.cfg, **({inner: value} if cfg_too else {}))
      return dataclasses.replace(plan, c=changed, cfg=cfg)

    return key, f'--config.{key}={value}', change

  if c.parallel.strategy == 'pmap':
    yield config('parallel.strategy', 'mesh')
  for remat in ('dots', 'full')[('none', 'dots', 'full').index(cfg.remat) :]:
    yield config('compute.remat', remat, cfg_too=True)
  if cfg.dtype == 'float32':
    yield config('compute.dtype', 'bfloat16', cfg_too=True)
  if cfg.attention == 'einsum' and pod.chip.tpu:
    yield config('compute.attention', 'splash', cfg_too=True)
  yield from (
    config('micro', n) for n in halves(c.micro_batch_size, plan.shards)
  )
  for n in (16, 8, 4, 2):
    if c.parallel.tensor_parallel < n <= cfg.kv_heads:
      yield config('parallel.tensor_parallel', n)
  yield from (config('sample.decode_slots', n) for n in halves(plan.slots, 1))
  if cfg.head_chunk > 128:
    yield config('compute.head_chunk', 128, cfg_too=True)
  if c.grpo.kl_coef:
    yield config('grpo.kl_coef', 0.0)
  for topology in larger(pod):
    words = f'--topology {topology}'
    least = (
      chips.pod(topology, pod.slices).devices // c.parallel.tensor_parallel
    )
    rows = {
      'micro': c.micro_batch_size,
      'grpo.prompts_per_step': c.grpo.prompts_per_step,
    }
    for key, value in rows.items():
      if value < least:
        words += f' --config.{key}={least}'

    def change(plan, topology=topology):
      return on(plan, topology)

    yield 'topology', words, change


def halves(value, least):
  while value % 2 == 0 and value // 2 >= least:
    value //= 2
    yield value


def larger(pod):
  """The next two topologies with twice and four times the chips."""
  sizes = [int(n) for n in pod.topology.split('x')]
  for _ in range(2):
    smallest = min(range(len(sizes)), key=sizes.__getitem__)
    sizes[smallest] *= 2
    if pod.chip.tpu and len(sizes) == 2 and max(sizes) > 16:
      return  # the largest slice of a 2D torus
    yield f'{pod.chip.name}:{"x".join(map(str, sizes))}'


def on(plan, topology):
  """The plan on another pod, with at least as many rows as it has shards."""
  plan = dataclasses.replace(plan, pod=chips.pod(topology, plan.pod.slices))
  questions = max(plan.c.grpo.prompts_per_step, plan.shards)
  c = dataclasses.replace(
    plan.c,
    micro=max(plan.c.micro_batch_size, plan.shards),
    grpo=dataclasses.replace(plan.c.grpo, prompts_per_step=questions),
  )
  return dataclasses.replace(plan, c=c)
