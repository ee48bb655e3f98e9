"""A run on a pod, as a config file and as the plan of a rehearsal."""

from r1jax import config as configs
from r1jax.preflight import arithmetic, chips, plan, shapes
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


def planned(topology='v5e:16x16', init='Qwen/Qwen2.5-7B', **changes):
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
  c = configs.build(rl_config.Config, config)
  pod = chips.pod(topology, c.parallel.slices)
  cfg = shapes.computed(c.init, c.compute, pod.chip)
  return plan.make(c, cfg, pod)


def named(run):
  return {x.name: x for x in arithmetic.costs(run)}
