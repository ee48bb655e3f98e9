"""Runs a pure function on many devices, by pmap or by shard_map over a mesh.
Results do not depend on the strategy."""

import dataclasses
import os
from collections.abc import Callable

import jax

from r1jax.distributed import device_placement
from r1jax.distributed.device_placement import Placement, PyTree
from r1jax.models import sharding, transformer

CACHE = '~/.cache/r1jax/xla'


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
    for name, spec in transformer.PARTITION.items()
    if 'data' in spec
  )
  fsdp = sharding.FsdpTensorParallel(placement.mesh.shape['model'], fsdp_axes)
  return dataclasses.replace(cfg, sharding=fsdp)


def rows_program(placement: Placement, fn: Callable) -> Callable:
  """The compiled fn(params, rows) -> rows, run by every device on its own rows.
  A loop in fn ends on each device independently."""
  if placement.strategy == 'pmap':
    devices: list[jax.Device] | None = placement.devices
    if devices == jax.devices()[: placement.num_shards]:
      devices = None  # pmap's default
    return jax.pmap(fn, 'data', in_axes=(None, 0), devices=devices)

  mesh, row_spec = placement.mesh, placement.row_spec

  def program(params, rows):
    specs = device_placement.specs(placement, params), row_spec
    return jax.shard_map(
      fn, mesh=mesh, in_specs=specs, out_specs=row_spec, check_vma=False
    )(params, rows)

  return jax.jit(program)


def run_rows(
  placement: Placement, program: Callable, params: PyTree, rows: PyTree
) -> PyTree:
  """Calls a rows_program with host arrays; returns host arrays."""
  rows = device_placement.put_rows(placement, rows)
  return device_placement.get_rows(placement, program(params, rows))
