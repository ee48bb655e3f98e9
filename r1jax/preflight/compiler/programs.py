"""The programs of an rl run, compiled for a pod that is not there: nothing is
allocated, and any machine with libtpu can do it."""

import dataclasses
import functools
import importlib.util
import os
import re
import time

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from r1jax.distributed import device_placement, programs
from r1jax.models import transformer
from r1jax.preflight.compiler import flops, traffic
from r1jax.rl import grpo
from r1jax.sampling import decode, generate
from r1jax.training import optimizer, train_step

# What libtpu reads when it is loaded: it must not look for a TPU host nor
# complain of none, whatever the pod, and two rehearsals may run at one time.
ENVIRONMENT = dict(
  TPU_SKIP_MDS_QUERY='1',
  ALLOW_MULTIPLE_LIBTPU_LOAD='1',
  TPU_WORKER_HOSTNAMES='localhost',
  TPU_ACCELERATOR_TYPE='v5litepod-1',
)
NAMED = dict(v4=dict(chip_config_name='megacore'))
FULL = re.compile(r'\(([\d.]+)([KMGT])\) exceeds available HBM')
COLUMNS = dict.fromkeys(('tokens_BL', 'pos_BL'), jnp.int32) | dict.fromkeys(
  ('adv_BL', 'weight_BL', 'old_BL', 'ref_BL', 'sampler_BL'), jnp.float32
)


def has_compiler():
  """Whether libtpu is installed."""
  return importlib.util.find_spec('libtpu') is not None


def devices(pod):
  """The devices of a pod, as the compiler knows them."""
  os.environ.update(ENVIRONMENT)
  more = dict(NAMED.get(pod.chip.name, {}))
  if pod.slices > 1:
    more['num_slices'] = pod.slices
  topology = topologies.get_topology_desc(
    platform='tpu', topology_name=f'{pod.chip.name}:{pod.topology}', **more
  )
  found = list(topology.devices)
  assert len(found) == pod.devices, f'{len(found)} devices, not {pod.devices}'
  return found


def costs(plan, formula, say=print):
  """The Cost of every program that the run calls, by the compiler; `formula`
  are those by arithmetic, which say what else lies in HBM."""
  place = device_placement.placement(plan.c.parallel, devices(plan.pod))
  known, found = {x.name: x for x in formula}, []
  traces = dict(train=trace_train, apply=trace_apply, score=trace_score)
  for name, trace in traces.items():
    if name in known:
      found += compiled(plan, known[name], trace(plan, place), say)
  return found + sampling(plan, known, trace_sample(plan, place), say)


def compiled(plan, formula, traced, say, steps=0):
  """[Cost] of one traced program; a refusal for want of memory is one, too.

  With `steps`, two: of what stands beside its loop of unknown length, and of
  one of the `steps` steps of a turn of that loop.
  """
  counted, began = flops.count(traced.jaxpr), time.time()
  notes = tuple(
    f'{n} calls of {name} are not in the FLOPs'
    for name, n in counted.unknown.items()
  )
  formula = dataclasses.replace(formula, notes=notes, source='compiler')
  try:
    program = traced.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    say(f'{formula.name}: refused after {time.time() - began:.0f} s')
    return [refused(formula, str(error))]
  say(f'{formula.name}: compiled in {time.time() - began:.0f} s')
  m = program.memory_analysis()
  formula = dataclasses.replace(
    formula,
    argument=m.argument_size_in_bytes,
    output=m.output_size_in_bytes,
    alias=m.alias_size_in_bytes,
    temp=m.temp_size_in_bytes,
    flops=counted.total / plan.pod.devices,
  )
  moved = traffic.measure(program.as_text(), plan.axes)
  if not steps:
    assert not moved.loops and not counted.loops, 'loops of unknown length'
    return [with_traffic(formula, moved)]
  turn, inside = counted.loops[0], moved.loops[0]
  step = with_traffic(formula, traffic.Traffic().add(inside, 1 / steps))
  each = turn.total / plan.pod.devices / steps
  return [
    dataclasses.replace(step, flops=each),
    dataclasses.replace(with_traffic(formula, moved), name='prefill'),
  ]


def sampling(plan, known, traced, say):
  """[prefill, decode]: of the program that samples, what stands before its
  loop and a step in it; the memory is decode's."""
  steps = plan.c.sample.refill_interval
  whole = compiled(plan, known['decode'], traced, say, steps)
  if whole[0].refused:
    return [known['prefill'], whole[0]]
  step, before = whole
  none = dict(argument=0, output=0, alias=0, temp=0, resident=0, parts=())
  return [dataclasses.replace(before, **none), step]


def with_traffic(formula, moved):
  rows = sorted(moved.table.items(), key=lambda item: -item[1][1])
  return dataclasses.replace(
    formula,
    hbm=moved.hbm,
    ici=moved.wire(far=False),
    dcn=moved.wire(far=True),
    collectives=tuple((key, n, size) for key, (n, size) in rows),
  )


def refused(formula, text):
  """Too much memory: the compiler's sentence, and its number where it says
  one."""
  number = FULL.search(text)
  scale = dict(K=2**10, M=2**20, G=2**30, T=2**40)
  need = float(number[1]) * scale[number[2]] if number else formula.own
  return dataclasses.replace(
    formula,
    refused=text.splitlines()[0][:400],
    argument=0,
    output=0,
    alias=0,
    temp=need,
  )


def trace_train(plan, place):
  """An update; with several micro-batches, the program that adds one."""
  do, state, batch, part = update(plan, place)
  if plan.micro_batches == 1:
    return do.step.trace(state, batch)
  return do.accumulate.trace(part, state.params, batch)


def trace_apply(plan, place):
  """What follows the last of several micro-batches."""
  do, state, _, part = update(plan, place)
  return do.apply.trace(state, part)


def update(plan, place):
  """(its Programs, the shapes of a state, a micro-batch and a part)."""
  c = plan.c
  tx = optimizer.optimizer(c.optim, c.steps)
  loss_fn = grpo.make_loss(
    c.grpo, programs.shard_config(place, plan.cfg), c.sample.temperature
  )
  do = train_step.update_programs(place, loss_fn, tx)
  params = device_placement.shapes(place, parameters(plan.cfg))
  state = jax.eval_shape(
    functools.partial(train_step.init_state, tx=tx), params
  )
  batch = device_placement.row_shapes(
    place,
    {
      name: jax.ShapeDtypeStruct((c.micro_batch_size, plan.row_len), dtype)
      for name, dtype in COLUMNS.items()
    },
  )
  part = jax.eval_shape(do.grad, params, batch)
  part = tuple(
    device_placement.shapes(place, tree, place.slice_axes) for tree in part
  )
  return do, device_placement.shapes(place, state), batch, part


def trace_score(plan, place):
  """log-probabilities of given rows, of the policy or of the reference."""
  cfg = programs.shard_config(place, plan.cfg)
  fn = grpo.make_logprobs(cfg, plan.c.sample.temperature)
  ids = jax.ShapeDtypeStruct((plan.c.micro_batch_size, plan.row_len), jnp.int32)
  params = device_placement.shapes(place, parameters(plan.cfg))
  batch = device_placement.row_shapes(place, dict(tokens_BL=ids, pos_BL=ids))
  return programs.rows_program(place, fn).trace(params, batch)


def trace_sample(plan, place):
  """Prefill and the decode loop: what generate.Sampler runs."""
  c, P = plan.c, plan.c.grpo.prompts_per_step
  cfg = dataclasses.replace(
    programs.shard_config(place, plan.cfg),
    scan_layers=c.compute.scan_decode,
    remat='none',
  )
  sc = dataclasses.replace(
    c.sample, max_new_tokens=plan.new_len, ends=c.sample.eos_ids or (0,)
  )
  decode_fn = generate.make_decode(cfg, c.grpo.group_size, sc)
  int_P = jax.ShapeDtypeStruct((P,), jnp.int32)
  tokens_PL = jax.ShapeDtypeStruct((P, plan.prompt_len), jnp.int32)
  prompts = decode.Prompts(tokens_PL, int_P, int_P, int_P, int_P)
  keys = jax.ShapeDtypeStruct((P, 2), jnp.uint32)
  params = device_placement.shapes(place, parameters(plan.cfg))
  given = device_placement.row_shapes(place, (prompts, keys))
  return programs.rows_program(place, decode_fn).trace(params, given)


def parameters(cfg):
  return jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
