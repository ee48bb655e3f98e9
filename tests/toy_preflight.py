"""A run on a pod, as a config file and as a Plan."""

import math

from r1jax import config as configs
from r1jax.distributed import device_placement
from r1jax.preflight import arithmetic, chips, shapes
from r1jax.preflight import plan as plans
from r1jax.preflight.compiler import flops, programs
from r1jax.preflight.cost import Cost
from r1jax.preflight.plan import Plan
from r1jax.rl import rl_config

EXPERIMENT = """
from experiments import base

def get_config():
  config = base.get_config('rl')
  config.init = 'Qwen/Qwen2.5-7B'
  config.prompts = 'nowhere/problems.jsonl'
  config.micro_batch_size = 64
  config.parallel.strategy = 'mesh'
  config.parallel.tensor_parallel = 4
  config.compute.dtype = 'bfloat16'
  config.compute.remat = 'full'
  config.compute.head_chunk = 512
  config.prompt.max_len = 1024
  config.sample.max_new_tokens = 3072
  config.sample.decode_slots = 16
  config.sample.kv_windows = 1
  config.grpo.prompts_per_step = 64
  config.grpo.old_logprobs = 'trainer'
  config.grpo.ref_every = 400
  return config
"""

# Changes of it for four CPU devices.
SMALL = dict(
  parallel__tensor_parallel=2,
  micro_batch_size=4,
  grpo__prompts_per_step=4,
  grpo__group_size=2,
  sample__max_new_tokens=24,
  prompt__max_len=8,
  sample__decode_slots=2,
  sample__refill_interval=5,
  compute__head_chunk=31,
  grpo__minibatches=2,
)


def make_plan(topology='v5e:16x16', init='Qwen/Qwen2.5-7B', **changes) -> Plan:
  """The Plan of EXPERIMENT with changed keys: grpo__kl_coef=0.0."""
  names = {}
  exec(EXPERIMENT, names)
  config = names['get_config']()
  config.init = init
  for name, value in changes.items():
    *path, key = name.split('__')
    section = config
    for part in path:
      section = section[part]
    section[key] = value
  built = configs.build(rl_config.Config, config)
  pod = chips.pod(topology, built.parallel.slices)
  cfg = shapes.computed(built.init, built.compute, pod.chip)
  return plans.make(built, cfg, pod)


def costs_by_name(plan: Plan) -> dict[str, Cost]:
  """The costs of a plan's programs by formula."""
  return {cost.name: cost for cost in arithmetic.costs(plan)}


def traced_flops(plan: Plan) -> dict[str, float]:
  """FLOPs of each program on a device, counted in the traced programs. Those of
  the head on the first column of rows, which the programs omit, are added."""
  placement = device_placement.placement(plan.config.parallel)
  devices, windows = plan.pod.devices, plan.cfg.layer_sizes.windows

  def count(name, traced):
    load = programs.load_of(plan, name)
    return flops.count(traced.jaxpr, windows, load.filled, load.rounds)

  train = count('train', programs.trace_train(plan, placement)).total
  score = count('score', programs.trace_score(plan, placement)).total
  traced = programs.trace_sampling(plan, placement)
  gather, prefill, decode = map(count, ('gather', 'prefill', 'decode'), traced)
  (loop,) = decode.loops
  steps = math.ceil(plan.config.sample.refill_interval / plan.step_tokens)
  column = 2 * plan.micro_batch_rows * plan.cfg.vocab_size * plan.cfg.width
  column /= plan.tensor_parallel
  return dict(
    train=train / devices + 4 * column,
    score=score / devices + column,
    gather=gather.total,
    prefill=prefill.total / devices,
    decode=loop.total / devices / steps,
  )
