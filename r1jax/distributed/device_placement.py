"""Array placement: replicated under pmap, or sharded over a mesh with the axes
('slice',) 'data' and 'model'. Transfers arrays between host and devices."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from r1jax import errors
from r1jax.config import option
from r1jax.distributed import hosts, mesh_check, watchdog
from r1jax.models import registry

PyTree = Any
LARGE = 1e9  # parameters whose reading is announced


@runtime_checkable
class UnreadLeaf(Protocol):
  """A leaf of parameters that is still in files, see checkpoints/unread.py."""

  shape: tuple[int, ...]
  dtype: np.dtype

  @property
  def size(self) -> int: ...

  def read(self, index: Sequence[slice]) -> np.ndarray:
    """leaf[index]."""


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
  strategy: Literal['pmap', 'mesh'] = option(
    'pmap', 'pmap: a replica on each device; mesh: sharded', is_free=True
  )
  tensor_parallel: int = option(
    1,
    "devices on the 'model' axis; if there are more of them than key heads, "
    'several share one',
    minimum=1,
    is_free=True,
  )
  slices: int = option(
    1, 'TPU slices, each with all parameters', minimum=1, is_free=True
  )
  rollout_devices: int = option(
    0, 'devices for sampling alone', minimum=0, is_free=True
  )


@dataclasses.dataclass(frozen=True)
class Placement:
  """Devices as a mesh, and how programs use them: strategy 'pmap', 'mesh', or
  'replicas' for pmap's programs on a mesh (preflight only)."""

  strategy: str
  mesh: Mesh

  @property
  def devices(self) -> list[jax.Device]:
    return list(self.mesh.devices.flat)

  @property
  def row_spec(self) -> P:
    """The sharding of the rows of a batch: over all axes but 'model'."""
    return P(tuple(axis for axis in self.mesh.axis_names if axis != 'model'))

  @property
  def slice_axes(self) -> tuple[str, ...]:
    """The axes between slices: ('slice',) or ()."""
    return tuple(axis for axis in self.mesh.axis_names if axis == 'slice')

  @property
  def num_shards(self) -> int:
    """The number of shards of the rows of a batch."""
    return self.mesh.size // self.mesh.shape.get('model', 1)


def check(config: ParallelConfig, num_devices: int) -> None:
  """Raises UserError if num_devices devices cannot form the configured mesh."""
  slices, parallel = config.slices, config.tensor_parallel
  size = slices * parallel
  if num_devices % size or (config.strategy == 'pmap' and size > 1):
    raise errors.UserError(
      f'config.parallel.tensor_parallel is {parallel} and slices {slices}: '
      f'their product must divide the {num_devices} devices and be 1 under pmap'
    )


def placement(
  config: ParallelConfig, devices: Sequence[jax.Device] | None = None
) -> Placement:
  """The placement of all devices, or of those given."""
  devices = devices or jax.devices()
  check(config, len(devices))
  axes: tuple[str, ...] = ('data', 'model')
  if config.strategy == 'pmap':
    # The mesh of pmap's outputs: with another, every program compiles twice.
    grid = np.array(sorted(devices, key=lambda device: device.process_index))
    axes = ('data',)
  elif config.slices == 1:
    grid = np.array(devices).reshape(-1, config.tensor_parallel)
  else:
    grid = np.array(devices).reshape(config.slices, -1, config.tensor_parallel)
    axes = ('slice', *axes)
  mesh = Mesh(grid, axes, axis_types=(AxisType.Auto,) * grid.ndim)
  return Placement(config.strategy, mesh)


def placements(config: ParallelConfig) -> tuple[Placement, Placement]:
  """The placements of (updates, rollouts): one and the same object unless
  config.rollout_devices is set."""
  devices, rollout = jax.devices(), config.rollout_devices
  if not rollout:
    shared = placement(config)
    return shared, shared
  if hosts.count() > 1 or rollout >= len(devices):
    raise errors.UserError(
      f'config.parallel.rollout_devices is {rollout}: it must be less than the '
      f'{len(devices)} devices, and 0 on more than one host'
    )
  updates = placement(config, devices[:-rollout])
  return updates, placement(config, devices[-rollout:])


def shardings(
  placement: Placement, tree: PyTree, front: tuple[str, ...] = ()
) -> PyTree:
  """The NamedSharding of every leaf of parameters or of a state, which may have
  additional leading axes: those are sharded over the mesh axes `front`."""

  axes = placement.mesh.shape

  def sharding_of(path, leaf):
    name = leaf_name(path)
    shape = leaf.shape[len(front) :]
    spec = P()
    if placement.strategy == 'mesh':
      spec = registry.partition(name, shape, axes['model'])
      mesh_check.check_divides(name, shape, spec, axes)
    return NamedSharding(placement.mesh, P(*front, *spec))

  return jax.tree_util.tree_map_with_path(sharding_of, tree)


def leaf_name(path: jax.tree_util.KeyPath) -> str:
  """The last part of a leaf's path; '' for a number."""
  return str(getattr(path[-1], 'key', getattr(path[-1], 'name', '')))


def specs(placement: Placement, tree: PyTree) -> PyTree:
  """The PartitionSpec of every leaf."""
  return jax.tree.map(lambda x: x.spec, shardings(placement, tree))


def shapes(
  placement: Placement, tree: PyTree, front: tuple[str, ...] = ()
) -> PyTree:
  """put_state(placement, tree) as ShapeDtypeStructs, to compile a program for
  devices that this machine does not have."""
  return jax.tree.map(_shape, tree, shardings(placement, tree, front))


def row_shapes(placement: Placement, tree: PyTree) -> PyTree:
  """put_rows(placement, tree) as ShapeDtypeStructs; under a mesh only."""
  sharding = NamedSharding(placement.mesh, placement.row_spec)
  return jax.tree.map(lambda x: _shape(x, sharding), tree)


def device_shapes(placement: Placement, tree: PyTree) -> PyTree:
  """The 'device' results of a program (see programs.device_program) as
  ShapeDtypeStructs; under a mesh only."""
  sharding = NamedSharding(placement.mesh, P(placement.mesh.axis_names))
  return jax.tree.map(lambda x: _shape(x, sharding), tree)


def put_state(placement: Placement, tree: PyTree) -> PyTree:
  """Puts parameters or a state, the same on all hosts, on own_devices. Of
  unread leaves each host reads what its devices hold: then it is a collective,
  and raises the UserError of one host on all."""
  unread = [x for x in jax.tree.leaves(tree) if isinstance(x, UnreadLeaf)]
  count = sum(leaf.size for leaf in unread)
  if count > LARGE:
    print(f'reading a model of {count / 1e9:.1f} B parameters', flush=True)
  placed = shardings(own_devices(placement), tree)
  if not unread:
    return jax.tree.map(_put, tree, placed)
  problem = None
  try:
    tree = jax.tree.map(_put, tree, placed)
  except errors.UserError as error:
    problem = error
  hosts.raise_on_all(problem)
  return tree


def put_zeros(placement: Placement, tree: PyTree) -> PyTree:
  """Zeros in the place of put_state(placement, tree), which reads no files."""
  placed = shardings(own_devices(placement), tree)

  def zeros():
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)

  return jax.jit(zeros, out_shardings=placed)()


def own_devices(placement: Placement) -> Placement:
  """The placement of a state: all devices of a mesh; under pmap this host's
  devices, since each host has its own replica."""
  if placement.strategy == 'mesh':
    return placement
  return dataclasses.replace(placement, mesh=placement.mesh.local_mesh)


@jax.jit
def copy(tree: PyTree) -> PyTree:
  """Copies the arrays to buffers that stay valid when the old are donated."""
  return jax.tree.map(jnp.copy, tree)


def put_rows(placement: Placement, tree: PyTree) -> PyTree:
  """Arrays for a program over rows, from host arrays [B, ...], the same on all
  hosts: global arrays under a mesh; under pmap host arrays, this host's part of
  [shards, B / shards, ...]."""
  if placement.strategy == 'mesh':
    sharding = NamedSharding(placement.mesh, placement.row_spec)
    return jax.tree.map(lambda x: _put(x, sharding), tree)
  is_own = [d.process_index == hosts.index() for d in placement.devices]
  return jax.tree.map(
    lambda x: np.reshape(x, (len(is_own), -1) + np.shape(x)[1:])[is_own], tree
  )


def get_rows(placement: Placement, tree: PyTree) -> PyTree:
  """The rows of all devices as host arrays [B, ...], on all hosts. Waits for
  the program that computes them; a collective."""
  if hosts.count() == 1:
    tree = jax.device_get(tree)
  else:
    tree = multihost_utils.process_allgather(tree, tiled=True)
  watchdog.heartbeat()
  if placement.strategy == 'mesh':
    return tree
  return jax.tree.map(lambda x: np.reshape(x, (-1,) + np.shape(x)[2:]), tree)


def _put(x, sharding):
  if isinstance(x, UnreadLeaf):
    return _read(x, sharding)
  if sharding.is_fully_addressable:
    return jax.device_put(x, sharding)
  if isinstance(x, jax.Array) and x.sharding == sharding:
    return x
  # device_put would compare the arrays of all hosts, on the devices.
  x = np.asarray(x)
  return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def _read(leaf, sharding):
  """An unread leaf on this host's devices. One shard after another is read, for
  all devices that hold it, so that the host's memory has one at a time."""
  devices_of: dict[tuple, list] = {}
  index_of = sharding.addressable_devices_indices_map(leaf.shape)
  for device, index in index_of.items():
    key = tuple(part.indices(size)[:2] for part, size in zip(index, leaf.shape))
    devices_of.setdefault(key, []).append(device)
  arrays = []
  for key, devices in devices_of.items():
    shard = leaf.read([slice(*bounds) for bounds in key])
    arrays += jax.block_until_ready(
      [jax.device_put(shard, device) for device in devices]
    )
  return jax.make_array_from_single_device_arrays(leaf.shape, sharding, arrays)


def _shape(x, sharding):
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
