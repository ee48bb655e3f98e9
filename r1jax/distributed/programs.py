"""A pure function as one program on many devices: under pmap, or on each device
of a mesh (shard_map). One device, pmap and mesh give the same numbers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from r1jax.distributed import device_placement
from r1jax.distributed.device_placement import Placement
from r1jax.models import sharding, transformer

PyTree = Any


def shard_config(
  placement: Placement, cfg: transformer.ModelConfig
) -> transformer.ModelConfig:
  """The model's config for a function that each of these devices runs."""
  if placement.strategy == 'pmap':
    return cfg
  fsdp_axes = tuple(
    (name, spec.index('data') - len(spec))
    for name, spec in transformer.PARTITION.items()
    if 'data' in spec
  )
  return dataclasses.replace(
    cfg,
    sharding=sharding.FsdpTensorParallel(
      placement.mesh.shape['model'], fsdp_axes
    ),
  )


def on_each_device(
  placement: Placement, fn: Callable, in_specs: PyTree, out_specs: PyTree
) -> Callable:
  """fn as every device of a mesh runs it, on its own parts."""
  return jax.shard_map(
    fn,
    mesh=placement.mesh,
    in_specs=in_specs,
    out_specs=out_specs,
    check_vma=False,
  )


def rows_program(placement: Placement, fn: Callable) -> Callable:
  """The compiled fn(params, rows) -> rows, run by every device on its own rows.

  A loop in fn may end on each device by itself: it does not wait for the rows
  of others.
  """
  if placement.strategy == 'pmap':
    return jax.pmap(
      fn, axis_name='data', in_axes=(None, 0), devices=pmap_devices(placement)
    )

  @jax.jit
  def program(params, rows):
    in_specs = device_placement.specs(placement, params), placement.row_spec
    return on_each_device(placement, fn, in_specs, placement.row_spec)(
      params, rows
    )

  return program


def run_rows(
  placement: Placement, program: Callable, params: PyTree, rows: PyTree
) -> PyTree:
  """Calls a rows_program with host arrays; returns host arrays."""
  rows = device_placement.put_rows(placement, rows)
  return device_placement.get_rows(placement, program(params, rows))


def pmap_devices(placement: Placement) -> list[jax.Device] | None:
  """The placement's devices; None where they are pmap's default."""
  devices = placement.devices
  return None if devices == jax.devices()[: len(devices)] else devices
