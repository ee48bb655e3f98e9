"""Compiles the programs of an rl run for a pod that is not present. This needs
libtpu but no TPU, and allocates nothing."""

import dataclasses
import functools
import importlib.util
import math
import os
import re
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import ShapeDtypeStruct
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from r1jax.distributed import device_placement, programs
from r1jax.distributed.device_placement import Placement
from r1jax.models import transformer
from r1jax.preflight import arithmetic, chips, experts, layers, shapes
from r1jax.preflight.compiler import flops, traffic
from r1jax.preflight.cost import Cost
from r1jax.preflight.plan import Plan
from r1jax.rl import grpo
from r1jax.sampling import decode, decode_state, decoder
from r1jax.training import optimizer, train_step

# libtpu reads these when it is loaded. It must not look for a TPU host, nor
# fail without one, and two processes may load it at the same time.
ENVIRONMENT = dict(
  TPU_SKIP_MDS_QUERY='1',
  ALLOW_MULTIPLE_LIBTPU_LOAD='1',
  TPU_WORKER_HOSTNAMES='localhost',
  TPU_ACCELERATOR_TYPE='v5litepod-1',
)
EXCEEDED = re.compile(r'\(([\d.]+)([KMGT])\) exceeds available HBM')
SCALE = dict(K=2**10, M=2**20, G=2**30, T=2**40)
INT_COLUMNS = ('tokens_BL', 'pos_BL')
FLOAT_COLUMNS = ('adv_BL', 'weight_BL', 'old_BL', 'ref_BL', 'sampler_BL')


def cannot_compile(plan: Plan) -> str:
  """The reason why a plan's programs cannot be compiled here; '' if none."""
  if not plan.pod.chip.is_tpu:
    return f'there is no compiler for {plan.pod.chip.name} here'
  if importlib.util.find_spec('libtpu') is None:
    return 'libtpu is not installed (pip install -r requirements-tpu.lock)'
  return ''


def devices_of(pod: chips.Pod) -> list[Any]:
  """The devices of a pod, for the compiler."""
  os.environ.update(ENVIRONMENT)
  options: dict[str, Any] = {}
  if pod.chip.name == 'v4':
    options['chip_config_name'] = 'megacore'
  if pod.slices > 1:
    options['num_slices'] = pod.slices
  if pod.topology == '1x1':  # Otherwise a host has four chips.
    options['chips_per_host_bounds'] = [1, 1, 1]
  name = f'{pod.chip.name}:{pod.topology}'
  devices = topologies.get_topology_desc(name, 'tpu', **options).devices
  assert len(devices) == pod.devices, f'{len(devices)}, not {pod.devices}'
  return devices


def placement_of(plan: Plan) -> Placement:
  """The placement of a run. That of pmap, whose programs jax cannot trace
  without devices, is a mesh on which nothing is sharded but rows: the devices
  run the same programs."""
  parallel = plan.config.parallel
  found = device_placement.placement(parallel, devices_of(plan.pod))
  if parallel.strategy == 'mesh':
    return found
  grid = np.array(found.devices).reshape(-1, 1)
  axis_types = (AxisType.Auto,) * grid.ndim
  mesh = Mesh(grid, ('data', 'model'), axis_types=axis_types)
  return Placement(strategy='replicas', mesh=mesh)


def costs(plan: Plan, formula_costs: list[Cost]) -> list[Cost]:
  """The compiler's Cost of every program; resident memory is by formula."""
  placement = placement_of(plan)
  formula, found = {cost.name: cost for cost in formula_costs}, []
  traces = dict(train=trace_train, apply=trace_apply, score=trace_score)
  for name, trace in traces.items():
    if name in formula:
      cost, moved = _compile(plan, formula[name], trace(plan, placement))
      assert not (moved and moved.loops), 'a loop of unknown length'
      found.append(cost)
  found += sampling_costs(plan, formula, placement)
  if 'evaluate' in formula:
    # It has the rollouts' programs with other numbers of rows.
    sizes = layers.sizes_of(plan)
    by_name = {x.name: x for x in arithmetic.sampling(plan.chunk, sizes)}
    print('evaluate:', flush=True)
    parts = sampling_costs(plan.chunk, by_name, placement)
    found.append(arithmetic.chunk_cost(plan, parts))
  return found


def _compile(plan, formula, traced):
  """(cost, traffic) of a program. The cost is without loops of unknown length;
  traffic is None if a program is refused because it needs too much memory."""
  load = load_of(plan, formula.name)
  counted, start = _count(plan, traced.jaxpr, load), time.time()
  unknown = counted.unknown.items()
  notes = tuple(f'{n} calls of {x} are not in the FLOPs' for x, n in unknown)
  cost = dataclasses.replace(formula, notes=notes, source='compiler')
  try:
    program = traced.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    print(f'{cost.name}: refused after {time.time() - start:.0f} s', flush=True)
    return refused(cost, str(error)), None
  print(f'{cost.name}: compiled in {time.time() - start:.0f} s', flush=True)
  memory = program.memory_analysis()
  cost = dataclasses.replace(
    cost,
    argument=memory.argument_size_in_bytes,
    output=memory.output_size_in_bytes,
    alias=memory.alias_size_in_bytes,
    temp=memory.temp_size_in_bytes,
    flops=counted.total / plan.pod.devices,
  )
  moved = traffic.measure(program.as_text(), plan.axes, load.rounds)
  return _with_traffic(cost, moved), moved


def load_of(plan: Plan, name: str) -> experts.Load:
  """The Load of the program of this name."""
  prompt_len = plan.config.prompt.max_len
  tokens_and_length = dict(
    train=(plan.micro_batch_rows * plan.row_len, plan.row_len),
    score=(plan.micro_batch_rows * plan.row_len, plan.row_len),
    prefill=(plan.prompts * prompt_len, prompt_len),
  )
  # Others have no layers, or are a decode step.
  return experts.load(plan, *tokens_and_length.get(name, (1, 1)))


def _count(plan, jaxpr, load):
  windows = plan.cfg.layer_sizes.windows
  return flops.count(jaxpr, windows, load.filled, load.rounds)


def refused(cost: Cost, error: str) -> Cost:
  """The cost of a program that does not fit, with the memory that the
  compiler's error states, if it does."""
  match, reason = EXCEEDED.search(error), error.splitlines()[0][:400]
  need = float(match[1]) * SCALE[match[2]] if match else cost.own
  memory: dict[str, Any] = dict(argument=0, output=0, alias=0, temp=need)
  return dataclasses.replace(cost, refused=reason, **memory)


def sampling_costs(
  plan: Plan, formula: dict[str, Cost], placement: Placement
) -> list[Cost]:
  """[gather, prefill, decode]; decode is one step of its loop."""
  gather, prefill, traced = trace_sampling(plan, placement)
  found = [
    _compile(plan, formula['gather'], gather)[0],
    _compile(plan, formula['prefill'], prefill)[0],
  ]
  cost, moved = _compile(plan, formula['decode'], traced)
  if moved is None:
    return [*found, cost]
  # The body of the loop decodes refill_interval tokens.
  interval, step_traffic = plan.config.sample.refill_interval, traffic.Traffic()
  steps = math.ceil(interval / plan.step_tokens)
  step_traffic.add(moved.loops[0], 1 / steps)
  step_traffic.hbm -= (1 - plan.cache_share) * step_traffic.cache
  loop = _count(plan, traced.jaxpr, load_of(plan, 'decode')).loops[0]
  step_flops = loop.total / plan.pod.devices / steps
  cost = dataclasses.replace(cost, flops=step_flops)
  return [*found, _with_traffic(cost, step_traffic)]


def _with_traffic(cost, moved):
  rows = sorted(moved.table.items(), key=lambda item: -item[1][1])
  collectives = tuple((key, n, size) for key, (n, size) in rows)
  ici, dcn = moved.sent()
  cost = dataclasses.replace(cost, hbm=moved.hbm, ici=ici, dcn=dcn)
  return dataclasses.replace(cost, collectives=collectives)


def trace_train(plan: Plan, placement: Placement) -> Any:
  """An update of one micro-batch, or the program that adds one."""
  updates, state, batch = update_shapes(plan, placement)
  if plan.micro_batches == 1:
    return updates.step.trace(state, batch)
  return _trace_accumulate(placement, updates, state, batch)


def trace_apply(plan: Plan, placement: Placement) -> Any:
  """The program after the last of several micro-batches."""
  updates, state, batch = update_shapes(plan, placement)
  total = _trace_accumulate(placement, updates, state, batch).out_info
  total = device_placement.shapes(placement, total, placement.slice_axes)
  return updates.apply.trace(state, *total)


def _trace_accumulate(placement, updates, state, batch):
  grads = jax.eval_shape(updates.zeros, state.params)
  grads = device_placement.shapes(placement, grads, placement.slice_axes)
  return updates.accumulate.trace(grads, state.params, batch)


def trace_score(plan: Plan, placement: Placement) -> Any:
  """Log-probabilities of given rows, of the policy or of the reference."""
  cfg = programs.shard_config(placement, plan.cfg)
  logprobs_fn = grpo.make_logprobs(cfg, plan.config.sample.temperature)
  program: Any = programs.rows_program(placement, logprobs_fn)
  params = _param_shapes(plan, placement)
  return program.trace(params, _batch_shapes(plan, placement))


def trace_sampling(plan: Plan, placement: Placement) -> tuple[Any, Any, Any]:
  """The programs of a Decoder: gather, start and advance."""
  config = plan.config
  cfg = dataclasses.replace(plan.cfg, scan_layers=config.compute.scan_decode)
  sample = dataclasses.replace(
    config.sample,
    max_new_tokens=plan.max_new_tokens,
    eos_ids=config.sample.eos_ids or (0,),
  )
  own: Any = decoder.Decoder(placement, cfg, config.grpo.group_size, sample)
  prompts, length = config.grpo.prompts_per_step, config.prompt.max_len
  tokens_PL = ShapeDtypeStruct((prompts, length), jnp.int32)
  int_P = ShapeDtypeStruct((prompts,), jnp.int32)
  rows = decode.Prompts(tokens_PL, int_P, int_P, int_P, int_P)
  key_P2 = ShapeDtypeStruct((prompts, 2), jnp.uint32)
  rows = device_placement.row_shapes(placement, (rows, key_P2))

  def results(traced):
    return device_placement.device_shapes(placement, traced.out_info)

  gather = own.gather.trace(_param_shapes(plan, placement), rows)
  params = results(gather)
  start = own.start.trace(params, rows)
  segments = ShapeDtypeStruct((), jnp.int32)
  # Among several programs the one that reads the whole cache.
  whole = own.advance(length + plan.max_new_tokens)
  advance = whole.trace(params, rows, *results(start), segments)
  return gather, start, advance


def update_shapes(plan, placement):
  """(programs of an update; shapes of a state and of a micro-batch)."""
  config = plan.config
  tx = optimizer.optimizer(config.optim, config.steps)
  cfg = programs.shard_config(placement, plan.cfg)
  loss_fn = grpo.make_loss(config.grpo, cfg, config.sample.temperature)
  updates = train_step.update_programs(placement, loss_fn, tx)
  params = _param_shapes(plan, placement)
  init = functools.partial(train_step.init_state, tx=tx)
  state = device_placement.shapes(placement, jax.eval_shape(init, params))
  batch = _batch_shapes(plan, placement, FLOAT_COLUMNS)
  return updates, state, batch


def _param_shapes(plan, placement):
  return device_placement.shapes(placement, shapes.parameters(plan.cfg))


def _batch_shapes(plan, placement, floats=()):
  """The shapes of a micro-batch's columns."""
  shape = (plan.micro_batch_rows * plan.num_shards, plan.row_len)
  columns = dict.fromkeys(INT_COLUMNS, ShapeDtypeStruct(shape, jnp.int32))
  columns |= dict.fromkeys(floats, ShapeDtypeStruct(shape, jnp.float32))
  if plan.cfg.num_experts and floats:
    columns['routing'] = ShapeDtypeStruct(
      (*shape, *_chosen_experts(plan.cfg)), decode_state.routing_dtype(plan.cfg)
    )
  return device_placement.row_shapes(placement, columns)


def _chosen_experts(cfg):
  """(layers with experts, experts of a token)."""
  cfg = dataclasses.replace(cfg, attention='einsum')
  token_BT = ShapeDtypeStruct((1, 2), jnp.int32)

  def routing(params, token_BT):
    return transformer.forward(params, cfg, token_BT, token_BT).routing

  params = shapes.parameters(cfg)
  layers, _, _, experts = jax.eval_shape(routing, params, token_BT).shape
  return layers, experts
