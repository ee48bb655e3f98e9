"""Runs a pure function on many devices, by pmap or by shard_map over a mesh.
Results do not depend on the strategy."""

import os
from collections.abc import Callable
from typing import Literal

import jax
from jax.sharding import PartitionSpec as P

from r1jax.distributed import device_placement
from r1jax.distributed.device_placement import Placement, PyTree
from r1jax.models import registry, sharding, transformer

CACHE = '~/.cache/r1jax/xla'
Kind = Literal['params', 'rows', 'device', 'scalar']  # see device_program


def compilation_cache() -> None:
  """Caches compiled programs in $R1JAX_CACHE or CACHE, unless this process has
  a cache already."""
  if jax.config.jax_compilation_cache_dir:
    return
  folder = os.environ.get('R1JAX_CACHE') or os.path.expanduser(CACHE)
  jax.config.update('jax_compilation_cache_dir', folder)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


def shard_config(
  placement: Placement, cfg: transformer.ModelConfig
) -> transformer.ModelConfig:
  """The model's config for a function that each of these devices runs."""
  if placement.strategy != 'mesh':
    return cfg
  fsdp_axes = tuple(
    (name, spec.index('data') - len(spec))
    for name, spec in registry.PARTITION.items()
    if 'data' in spec
  )
  fsdp = sharding.FsdpTensorParallel(placement.mesh.shape['model'], fsdp_axes)
  return cfg.sharded(fsdp)


def rows_program(placement: Placement, fn: Callable) -> Callable:
  """The compiled fn(params, rows) -> rows, run by every device on its own rows.
  A loop in fn ends on each device independently."""
  return device_program(placement, fn, ('params', 'rows'), ('rows',))


def device_program(
  placement: Placement,
  fn: Callable,
  inputs: tuple[Kind, ...],
  outputs: tuple[Kind, ...],
  donate: tuple[int, ...] = (),
) -> Callable:
  """The compiled fn, run by every device. fn returns a tuple if there are
  several outputs. Each argument and result is

  - params: placed by device_placement.put_state
  - rows: placed by device_placement.put_rows, each device has its own
  - device: a device's own values, which another program gave as an output:
    outside of fn they have a leading axis of devices
  - scalar: one on the host, the same for all devices
  """
  if placement.strategy == 'pmap':
    devices: list[jax.Device] | None = placement.devices
    if devices == jax.devices()[: placement.num_shards]:
      devices = None  # pmap's default
    axes = tuple(0 if kind in ('rows', 'device') else None for kind in inputs)
    return jax.pmap(
      fn, 'data', in_axes=axes, devices=devices, donate_argnums=donate
    )

  mesh = placement.mesh
  specs = dict(rows=placement.row_spec, device=P(mesh.axis_names), scalar=P())
  out_specs = tuple(specs[kind] for kind in outputs)

  def on_device(*args):
    args = [_drop_axis(x) if k == 'device' else x for k, x in zip(inputs, args)]
    results = fn(*args)
    if len(outputs) == 1:
      return _add_axis(results) if outputs[0] == 'device' else results
    return tuple(
      _add_axis(x) if k == 'device' else x for k, x in zip(outputs, results)
    )

  def program(*args):
    in_specs = tuple(
      device_placement.specs(placement, x) if k == 'params' else specs[k]
      for k, x in zip(inputs, args)
    )
    return jax.shard_map(
      on_device,
      mesh=mesh,
      in_specs=in_specs,
      out_specs=out_specs if len(outputs) > 1 else out_specs[0],
      check_vma=False,
    )(*args)

  return jax.jit(program, donate_argnums=donate)


def _drop_axis(tree):
  """The tree without the leading axis of its leaves, which has size 1."""
  return jax.tree.map(lambda a: a[0], tree)


def _add_axis(tree):
  """The tree with a leading axis of size 1 in its leaves."""
  return jax.tree.map(lambda a: a[None], tree)


def run_rows(
  placement: Placement, program: Callable, params: PyTree, rows: PyTree
) -> PyTree:
  """Calls a rows_program with host arrays; returns host arrays."""
  rows = device_placement.put_rows(placement, rows)
  return device_placement.get_rows(placement, program(params, rows))
